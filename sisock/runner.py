"""Running a node, or any session, in the foreground: `serve` is the shortest way to a node."""

import gc
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import STDLibLogObserver, globalLogBeginner
from twisted.python.failure import Failure

from sisock.access import Access
from sisock.alarm.notify import Target
from sisock.errors import SisockError
from sisock.node import Node, open_node
from sisock.node_context import make_context
from sisock.nodetype import NodeSettings, node_type_of
from sisock.printable import log_printable, printable_lines
from sisock.process import prepare_process, show_life
from sisock.reactorwatch import ReactorWatch
from sisock.server import HistoryServer
from sisock.service import Service
from sisock.service_node import ServiceNode, ServiceServer
from sisock.settings import HistorySettings
from sisock.site import Where, find_access
from sisock.source import Source
from sisock.wamp.connection import Connection, MakeSession

# Seconds between a node's signs of life.
_SIGN_OF_LIFE_S = 2.0
_NEW_OBJECTS = 25_000
# Seconds for which a thread that computes keeps the others waiting, and Python's own 0.005 add up over the threads of a
# request.
_SWITCH_S = 0.0005

log = logging.getLogger(__name__)


def run(make_session: MakeSession, site: Where | None = None, *, node: Node | ServiceNode | None = None) -> None:
    """Serve in the foreground, joining the router again whenever it was lost, until Ctrl-C or SIGTERM.

    Parameters
    ----------
    make_session : callable
        A `DataNodeServer` subclass, or anything that makes a session from an autobahn ComponentConfig.
    site : str, path or Access, optional
        The folder or the file of a site, or how its router is reached; found as the commands do when not given, see
        `sisock.site.find_access`.
    node : Node or ServiceNode, optional
        Started before and stopped after.

    Raises
    ------
    Refused
        If the router does not let us in.
    NameTaken
        If another node has the name.
    """
    from twisted.internet import reactor

    _log_to_stderr()
    prepare_process()
    collect_rarely()
    sys.setswitchinterval(_SWITCH_S)
    failures: list[SisockError] = []
    connection = Connection(find_access(site, "server"), make_session, reactor=reactor)

    def ended(failure: Failure) -> None:
        failures.append(failure.value)
        reactor.stop()

    def start() -> None:
        if node is not None:
            node.start()
            _show_life(node)
            ReactorWatch(node.name, node.work, node.clock, reactor.callFromThread).start()
        connection.start()

    def stop() -> Deferred[Any]:
        stopping = connection.stop()
        if node is not None:
            # In a thread: there are sources that end with the help of the reactor.
            stopping.addBoth(lambda _: deferToThread(node.stop)).addErrback(
                lambda failure: failures.append(failure.value)
            )
        return stopping

    connection.ended.addErrback(ended)
    reactor.addSystemEventTrigger("before", "shutdown", stop)
    reactor.callWhenRunning(lambda: maybeDeferred(start).addErrback(ended))
    reactor.run()
    if failures:
        raise failures[0]


def _show_life(node: Node | ServiceNode) -> None:
    """Give signs of life for as long as the reactor turns and the node's status can be read, be it with an error."""
    LoopingCall(lambda: maybeDeferred(node.status).addBoth(lambda _: show_life())).start(_SIGN_OF_LIFE_S)


def collect_rarely() -> None:
    """Let Python look for reference cycles rarely, in a process that is a node or serves many.

    A batch makes thousands of objects at once, and none of them is in a cycle. By default all young objects are looked
    through whenever there are 700 more, which takes a third of the time of a stream of messages.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])


def _log_to_stderr() -> None:
    """Show our log, and what Twisted has to complain about, unless the program has set up logging itself."""
    if logging.root.handlers:
        return
    log_printable()
    logging.getLogger("twisted").setLevel(logging.WARNING)
    globalLogBeginner.beginLoggingTo([STDLibLogObserver()], redirectStandardIO=False)


def serve_settings(
    name: str,
    settings: NodeSettings,
    access: Access,
    *,
    folder: Path | None = None,
    secrets: Mapping[str, str] | None = None,
    notifications: Sequence[Target] = (),
) -> None:
    """Run the node that a site file describes in the foreground, whatever its type; see `sisock.node.open_node`."""
    make_service = node_type_of(settings).make_service
    if make_service is None:
        serve_node(
            open_node(name, settings, access, folder=folder, secrets=secrets, notifications=notifications), access
        )
        return
    context = make_context(name, access, settings, folder=folder, secrets=secrets)
    made = make_service(settings, context)
    if not isinstance(made, Service):
        run(made, access)
        return
    service = ServiceNode(made, context, settings.description)
    run(lambda config: ServiceServer(service, config), access, node=service)


def serve_node(node: Node, site: Where | None = None) -> None:
    """Run a node in the foreground: its sources from now on, its session whenever the router is reachable."""
    run(lambda config: HistoryServer(node, config), site, node=node)


def serve(
    name: str,
    *sources: Source,
    description: str | None = None,
    history: HistorySettings | None = None,
    site: Where | None = None,
) -> None:
    """Serve some sources as the data node `name`, in the foreground, until Ctrl-C; the shortest way to a node.

    The router is that of `site`, a folder or a file; found as the commands do when not given, see
    `sisock.site.find_access`.

    Raises
    ------
    SystemExit
        With the error's text, if the name is taken, the router refuses us, or anything else ends the node for good.
    """
    try:
        serve_node(Node(name, description, sources, history), site)
    except SisockError as error:
        sys.exit("\n".join(f"sisock: {line}" for line in printable_lines(error.message)))
