package httpd

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// refusalLogInterval keeps a flood of connections from becoming a flood of logs.
const refusalLogInterval = time.Minute

// limitedListener closes connections above max at once, so that a client learns
// it immediately and goes to another node, in place of waiting in a queue that
// idle connections may hold for minutes.
type limitedListener struct {
	net.Listener
	max     int64
	open    atomic.Int64
	metrics *metrics
	log     *slog.Logger
	now     func() time.Time

	lastLogged time.Time // only Accept's goroutine uses it
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.max {
			l.metrics.connections.Inc()
			return &countedConn{Conn: c, listener: l}, nil
		}
		l.open.Add(-1)
		l.metrics.connectionsRefused.Inc() // before the client can know of it
		if now := l.now(); now.Sub(l.lastLogged) >= refusalLogInterval {
			l.lastLogged = now
			l.log.Warn("connection refused: too many are open", slog.Int64("max_connections", l.max))
		}
		c.Close() //nolint:errcheck // refused; there is no one to tell
	}
}

// countedConn gives its place back when it is closed for the first time.
type countedConn struct {
	net.Conn
	listener *limitedListener
	once     sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.listener.open.Add(-1)
		c.listener.metrics.connections.Dec()
	})
	return c.Conn.Close()
}
