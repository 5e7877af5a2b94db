package kafka

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are chosen here. Systems give ports above to connections: one of those would take the port of a process that was killed
// before it is back, and a client that tries to reach it may even be given the same port and reach itself.
const (
	portFirst = 12_000
	portLast  = 32_000
	portTries = 1000
)

// FreePorts are ports of the loopback interface that nobody listens on now.
func FreePorts(n int) (ports []int, err error) {
	for try := 0; len(ports) < n; try++ {
		port := portFirst + rand.IntN(portLast-portFirst)
		l, listenErr := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		if err = errors.Join(err, listenErr); listenErr == nil {
			defer l.Close() // together, so that they differ
			ports = append(ports, port)
		} else if try == portTries {
			return nil, fmt.Errorf("kafka: free port: %w", err)
		}
	}
	return ports, nil
}
