package connector

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The log of a node listens while the node is still being made: a founder that asks for its name just then has to wait, and must not
// end it. (A start of three processes in make test-kafka once did.)
func TestCallOfNodeThatIsBeingMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{options: Options{Node: "n3"}, opened: make(chan struct{})}
		for _, method := range []uint8{methodHello, methodRegister, methodManifest} {
			ctx, cancel := context.WithTimeout(t.Context(), callLimit)
			began := time.Now()
			_, err := n.answer(ctx, "n1", method, nil)
			cancel()
			if err == nil || !strings.Contains(err.Error(), "node n3 is starting") {
				t.Errorf("method %d: %v, want an error that says that n3 is starting", method, err)
			}
			if waited := time.Since(began); waited != callLimit {
				t.Errorf("method %d: answered after %s, want it to wait for the parts of the node", method, waited)
			}
		}
	})
}
