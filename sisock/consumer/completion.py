"""Completion by Tab in IPython and Jupyter, of what only a node can list."""

import re
import sys
from contextlib import suppress
from typing import Any

from sisock.consumer.handles import NodeHandle, Procedures
from sisock.errors import SisockError

# The expression before `.procedures.`: a variable, or an item of one.
_BEFORE_PROCEDURE = re.compile(r"""([\w.]+(?:\[(?:'[^']*'|"[^"]*")\])?)\.procedures\.(\w*)$""")


def allow_completion(consumer: type) -> None:
    """Have IPython complete the fields and procedures of a node that is an item of a consumer of this type."""
    if "IPython" not in sys.modules:
        return
    # Versions that lack these complete the names of variables only.
    with suppress(ImportError, AttributeError, KeyError, TypeError):
        from IPython.core.getipython import get_ipython
        from IPython.core.guarded_eval import EVALUATION_POLICIES

        # IPython evaluates items of no type that it does not know.
        known = EVALUATION_POLICIES["limited"].allowed_getitem_external
        known.update((kind.__module__, kind.__qualname__) for kind in (consumer, NodeHandle, Procedures))
        shell = get_ipython()
        if shell is not None and complete_procedures not in shell.Completer.custom_matchers:
            shell.Completer.custom_matchers.append(complete_procedures)


def complete_procedures(context: Any) -> Any:
    """Return the names of a node's procedures; IPython itself goes by the annotations, which do not have them."""
    from IPython.core.completer import SimpleCompletion
    from IPython.core.getipython import get_ipython
    from IPython.core.guarded_eval import EvaluationContext, guarded_eval

    written = _BEFORE_PROCEDURE.search(context.text_until_cursor)
    if written is None:
        return {"completions": []}
    expression, begun = written.groups()
    names = get_ipython().user_ns
    try:
        node = guarded_eval(expression, EvaluationContext(globals=names, locals=names, evaluation="limited"))
        procedures = list(node.procedures) if isinstance(node, NodeHandle) else []
    except (SisockError, NameError, AttributeError, ValueError, TypeError, SyntaxError):
        procedures = []  # a wrong expression, or a node that does not answer, completes nothing
    return {
        "completions": [SimpleCompletion(name, type="function") for name in procedures if name.startswith(begun)],
        "matched_fragment": begun,
    }


complete_procedures.matcher_api_version = 2  # type: ignore[attr-defined]
complete_procedures.matcher_identifier = "sisock.procedures"  # type: ignore[attr-defined]
