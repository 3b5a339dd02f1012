package siem

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// SyslogOptions are what NewSyslog needs.
type SyslogOptions struct {
	Address string      // host:port
	TLS     *tls.Config // nil: plain TCP, which anybody on the path reads and changes
	Encoder *Encoder
	// Newlines ends messages with a line end (RFC 6587 section 3.4.2), for receivers
	// that do not know octet counting; no message holds one.
	Newlines bool
	// Unconfirmed keeps the connection open and takes what was written for arrived.
	// What was on its way when the receiver went down is then lost.
	Unconfirmed bool
	Dial        func(ctx context.Context, network, address string) (net.Conn, error) // nil: a net.Dialer
}

// Syslog sends RFC 5424 messages over TLS (RFC 5425) or TCP (RFC 6587).
//
// Syslog has no acknowledgements. So that none is needed, each batch has a
// connection of its own, which this side ends; that the receiver then ends it too
// shows that it has read to the end. A receiver that dies before, or does not
// answer, gets the batch again.
type Syslog struct {
	o    SyslogOptions
	conn net.Conn      // kept, if Unconfirmed
	gone chan struct{} // closed when the receiver has ended conn
}

// NewSyslog returns the sink; it connects at the first batch.
func NewSyslog(o SyslogOptions) *Syslog {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	}
	return &Syslog{o: o}
}

// Send implements Sink.
func (s *Syslog) Send(ctx context.Context, b Batch) (int, error) {
	var text, message []byte
	var err error
	for i, ev := range b.Events {
		if message, err = s.o.Encoder.Syslog(message[:0], ev); err != nil {
			if i == 0 {
				return 0, &RejectedError{err.Error()}
			}
			b.Events = b.Events[:i] // those before it first
			break
		}
		if s.o.Newlines {
			text = append(append(text, message...), '\n')
		} else {
			text = append(strconv.AppendInt(text, int64(len(message)), 10), ' ')
			text = append(text, message...)
		}
	}
	if serr := s.write(ctx, text); serr != nil {
		return 0, serr
	}
	if err != nil {
		return len(b.Events), &RejectedError{err.Error()}
	}
	return len(b.Events), nil
}

func (s *Syslog) write(ctx context.Context, text []byte) (err error) {
	if s.conn != nil {
		select {
		case <-s.gone:
			s.Close() //nolint:errcheck // it has ended
		default:
		}
	}
	if s.conn == nil {
		if s.conn, err = s.connect(ctx); err != nil {
			return err
		}
		s.gone = make(chan struct{})
		if s.o.Unconfirmed {
			go s.await(s.conn, s.gone)
		}
	}
	conn := s.conn
	// The deadline of ctx, and its end before that, end the writing.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // the connection is then broken anyway
	defer stop()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetWriteDeadline(deadline); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	if _, err := conn.Write(text); err != nil {
		s.Close() //nolint:errcheck // it is broken
		return fmt.Errorf("write to %s: %w", s.o.Address, err)
	}
	if s.o.Unconfirmed {
		if err := acknowledged(ctx, conn); err != nil {
			s.Close() //nolint:errcheck // it is broken
			return fmt.Errorf("write to %s: %w", s.o.Address, err)
		}
		return nil
	}
	defer s.Close() //nolint:errcheck // what matters is known by then
	if err := confirm(ctx, conn); err != nil {
		return fmt.Errorf("%s did not confirm by ending the connection: %w", s.o.Address, err)
	}
	return nil
}

// await reads from a kept connection until the receiver ends it.
func (s *Syslog) await(conn net.Conn, gone chan struct{}) {
	io.Copy(io.Discard, conn) //nolint:errcheck // however it ends, it has
	close(gone)
}

// confirm ends this side's half of the connection and waits for the other's end.
func confirm(ctx context.Context, conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("the connection has no halves")
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	if c, ok := conn.(*tls.Conn); ok {
		// crypto/tls only says goodbye; many receivers wait for the end of TCP.
		if tcp, ok := c.NetConn().(interface{ CloseWrite() error }); ok {
			if err := tcp.CloseWrite(); err != nil {
				return err
			}
		}
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetReadDeadline(deadline); err != nil {
			return err
		}
	}
	if err := ended(conn); err != nil {
		return err
	}
	if c, ok := conn.(*tls.Conn); ok {
		// A receiver that closes without having read resets the connection, which TLS
		// does not see if it said goodbye before.
		if err := ended(c.NetConn()); err != nil {
			return err
		}
	}
	return acknowledged(ctx, conn)
}

// ended reads to the end. Syslog receivers say nothing; what one says all the same
// is bounded.
func ended(conn net.Conn) error {
	n, err := io.Copy(io.Discard, io.LimitReader(conn, 64<<10))
	if err == nil && n == 64<<10 {
		return errors.New("it talks instead")
	}
	return err
}

// acknowledged waits until the other machine has everything: one whose receiver
// ended the connection before it looked at it will not take what came later.
func acknowledged(ctx context.Context, conn net.Conn) error {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		n, err := unacknowledged(conn)
		if err != nil || n == 0 {
			return err
		}
		if pause(ctx, wait) != nil {
			return fmt.Errorf("%d bytes were not taken", n)
		}
	}
}

func (s *Syslog) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	conn, err := s.o.Dial(ctx, "tcp", s.o.Address)
	if err != nil || s.o.TLS == nil {
		return conn, err
	}
	c := s.o.TLS.Clone()
	if c.ServerName == "" {
		if c.ServerName, _, err = net.SplitHostPort(s.o.Address); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	t := tls.Client(conn, c)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS with %s: %w", s.o.Address, err), conn.Close())
	}
	return t, nil
}

// Close implements Sink.
func (s *Syslog) Close() error {
	if s.conn == nil {
		return nil
	}
	c := s.conn
	s.conn = nil
	err := c.Close()
	if s.o.Unconfirmed {
		<-s.gone
	}
	return err
}
