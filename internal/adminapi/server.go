package adminapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"cardea/internal/iam"
	"cardea/internal/identity"
	"cardea/internal/kms"
	"cardea/internal/vault"
)

// maxPath is the longest path of a socket in bytes, on Linux.
const maxPath = 107

// maxBody is the longest request in bytes: a policy document and what it is for.
const maxBody = 1 << 20

// maxWait bounds an operation.
const maxWait = 15 * time.Minute

// Options of a Server. Path is required, and either what is the key service's, or
// what is the vault's.
type Options struct {
	Path   string // of the socket
	Logger *slog.Logger

	Identities *identity.Service
	Keys       *kms.Service
	Status     func(context.Context) *Status

	Vault       *vault.Service // to import into
	VaultKeys   *vault.KeyAdmin
	VaultStatus func(context.Context) *VaultStatus
}

// setting is where the path is configured.
func (o *Options) setting() string {
	if o.VaultKeys != nil {
		return "vault.admin_socket"
	}
	return "key_service.admin_socket"
}

// Server answers on the socket.
type Server struct {
	o      Options
	routes map[string]route
	ln     net.Listener
	http   *http.Server
}

// Listen makes the socket, for this user only. A socket that a process left behind
// is replaced; one that a process answers on is an error.
func Listen(o Options) (*Server, error) {
	if len(o.Path) > maxPath {
		return nil, fmt.Errorf("admin socket: the path %s has %d bytes, a socket's has at most %d: set a shorter %s", o.Path, len(o.Path), maxPath, o.setting())
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if c, err := net.Dial("unix", o.Path); err == nil {
		c.Close() //nolint:errcheck // only tried
		return nil, fmt.Errorf("admin socket: another process answers on %s", o.Path)
	}
	if err := os.Remove(o.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	ln, err := net.Listen("unix", o.Path)
	if err == nil {
		// Whoever connects before this is asked for, too: see peerOf.
		err = os.Chmod(o.Path, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	s := &Server{o: o, routes: routes(), ln: ln}
	if o.VaultKeys != nil {
		s.routes = vaultRoutes()
	}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: maxWait,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peerOf(c))
		},
	}
	return s, nil
}

// Serve answers until ctx ends, finishes what was begun, and removes the socket.
func (s *Server) Serve(ctx context.Context) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if s.http.Shutdown(end) != nil {
			s.http.Close() //nolint:errcheck // what is left is cut off
		}
	})
	err := s.http.Serve(s.ln)
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

// Close removes the socket of a server that is not served.
func (s *Server) Close() error {
	if err := s.ln.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// peerKey is the context key of who is at the other end of a connection.
type peerKey struct{}

// peer is who is at the other end.
type peer struct {
	name string
	err  error
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok || p.err != nil {
		s.o.Logger.WarnContext(r.Context(), "admin socket: refused", slog.Any("error", p.err))
		reply(w, http.StatusForbidden, &Error{Code: "AccessDenied", Message: "Only the user that the service runs as, and root, may use its admin socket."})
		return
	}
	if r.Method != http.MethodPost {
		reply(w, http.StatusMethodNotAllowed, &Error{Code: "MethodNotAllowed", Message: "Operations are asked for by POST."})
		return
	}
	h, ok := s.routes[r.URL.Path]
	if !ok {
		reply(w, http.StatusNotFound, &Error{Code: "UnknownOperation", Message: "This release has no operation " + r.URL.Path + ": client and server must be of one release."})
		return
	}
	c := &exchange{server: s, operator: p.name, id: uuid.NewString()}
	limit := int64(maxBody)
	if r.URL.Path == importPath {
		limit = maxImport
	}
	out, err := h(r.Context(), c, http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		e, status := errorOf(err)
		reply(w, status, e)
		return
	}
	reply(w, http.StatusOK, out)
	if d, is := out.(interface{ Destroy() }); is {
		d.Destroy()
	}
}

// exchange is a request and who makes it.
type exchange struct {
	server   *Server
	operator string
	id       string
}

// identityCaller is the operator to the identity service.
func (x *exchange) identityCaller() identity.Caller {
	who := identity.ByOperator(x.principal())
	who.RequestID = x.id
	return who
}

func (x *exchange) principal() iam.Principal {
	return iam.Principal{Type: iam.TypeOperator, Name: x.operator, Auth: "socket", Actions: []string{"*"}, Merchants: []string{"*"}}
}
