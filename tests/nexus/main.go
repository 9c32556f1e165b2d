// A WAMP router that is not Crossbar, for the tests and as an example: nexus, with what sisock needs of a router.
//
// It takes a JSON object on standard input, prints a line when it listens, and ends with its standard input.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/gammazero/nexus/v3/router"
	"github.com/gammazero/nexus/v3/router/auth"
	"github.com/gammazero/nexus/v3/wamp"
)

type account struct {
	Secret string `json:"secret"`
	Role   string `json:"role"`
}

type settings struct {
	WebSocket string             `json:"websocket"` // host:port
	RawSocket string             `json:"rawsocket"` // host:port
	Realm     string             `json:"realm"`
	BaseURI   string             `json:"base_uri"`
	Accounts  map[string]account `json:"accounts"`
	// What is left out, so that a test sees how it is reported: wampcra, disclosure, progress, session_events,
	// subscription_events.
	Lacks []string `json:"lacks"`
}

func (s settings) lacks(what string) bool {
	for _, each := range s.Lacks {
		if each == what {
			return true
		}
	}
	return false
}

// keys has the secrets and roles of the accounts.
type keys struct{ settings }

func (k keys) AuthKey(user, _ string) ([]byte, error) {
	if known, ok := k.Accounts[user]; ok {
		return []byte(known.Secret), nil
	}
	return nil, errors.New("no such user")
}

func (k keys) AuthRole(user string) (string, error) {
	if known, ok := k.Accounts[user]; ok {
		return known.Role, nil
	}
	return "", errors.New("no such user")
}

func (k keys) PasswordInfo(string) (string, int, int) { return "", 0, 0 }

func (k keys) Provider() string { return "static" }

// rights decides what each role may do, and discloses callers to the procedures of sisock.
type rights struct{ settings }

func (r rights) Authorize(session *wamp.Session, message wamp.Message) (bool, error) {
	role, _ := wamp.AsString(session.Details["authrole"])
	switch m := message.(type) {
	case *wamp.Call:
		if strings.HasPrefix(string(m.Procedure), r.BaseURI+".") {
			if m.Options == nil {
				m.Options = wamp.Dict{}
			}
			if !r.lacks("disclosure") {
				m.Options[wamp.OptDiscloseMe] = true
			}
			if r.lacks("progress") {
				delete(m.Options, wamp.OptReceiveProgress)
			}
		}
		return r.mayAsk(role, string(m.Procedure), "wamp.subscription.match", "wamp.session.kill"), nil
	case *wamp.Subscribe:
		return r.mayAsk(role, string(m.Topic), "wamp.session.on_leave", "wamp.subscription.on_create",
			"wamp.subscription.on_delete"), nil
	case *wamp.Register:
		return r.mayServe(role, string(m.Procedure)), nil
	case *wamp.Publish:
		return r.mayServe(role, string(m.Topic)), nil
	}
	return true, nil
}

// mayServe tells whether a role may register a procedure or publish on a topic.
func (r rights) mayServe(role, uri string) bool {
	return role == "server" && strings.HasPrefix(uri, r.BaseURI+".")
}

// mayAsk tells whether a role may call a procedure or subscribe to a topic; some of WAMP's own are for servers.
func (r rights) mayAsk(role, uri string, ofServers ...string) bool {
	switch role {
	case "server":
		for _, each := range ofServers {
			left := strings.HasPrefix(uri, "wamp.session.on") && r.lacks("session_events") ||
				strings.HasPrefix(uri, "wamp.subscription.") && r.lacks("subscription_events")
			if uri == each && !left {
				return true
			}
		}
		return r.mayServe(role, uri)
	case "operator", "gateway":
		if strings.HasPrefix(uri, r.BaseURI+".control.") {
			return true
		}
		fallthrough
	case "consumer":
		return strings.HasPrefix(uri, r.BaseURI+".consumer.")
	}
	return false
}

func run() error {
	input := bufio.NewReader(os.Stdin)
	line, err := input.ReadBytes('\n')
	if err != nil {
		return err
	}
	var s settings
	if err := json.Unmarshal(line, &s); err != nil {
		return err
	}
	realm := &router.RealmConfig{
		URI:            wamp.URI(s.Realm),
		AllowDisclose:  true,
		EnableMetaKill: true,
		Authorizer:     rights{s},
	}
	if s.lacks("wampcra") {
		realm.AnonymousAuth = true
	} else {
		realm.Authenticators = []auth.Authenticator{auth.NewCRAuthenticator(keys{s}, 5*time.Second)}
	}
	nexus, err := router.NewRouter(&router.Config{RealmConfigs: []*router.RealmConfig{realm}},
		log.New(os.Stderr, "", 0))
	if err != nil {
		return err
	}
	defer nexus.Close()
	websocket := router.NewWebsocketServer(nexus)
	websocket.KeepAlive = 5 * time.Second
	closer, err := websocket.ListenAndServe(s.WebSocket)
	if err != nil {
		return err
	}
	defer closer.Close()
	closer, err = router.NewRawSocketServer(nexus).ListenAndServe("tcp", s.RawSocket)
	if err != nil {
		return err
	}
	defer closer.Close()
	fmt.Println("listening")
	_, err = io.Copy(io.Discard, input)
	return err
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
