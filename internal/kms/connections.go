package kms

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

	"cardea/internal/secret"
)

const (
	// connectTimeout is how long a login at a cluster may take. A connection that
	// has been CONNECTING for twice as long has lost its node; another takes over.
	connectTimeout = 30 * time.Second
	// reconnectAfter is how long a node that could not log in to a connected store
	// waits before it tries again.
	reconnectAfter = 10 * time.Second
)

// ConnectError is why a cluster could not be connected. Code is what
// DescribeCustomKeyStores tells, one of the values below.
type ConnectError struct {
	Code string
	Err  error
}

func (e *ConnectError) Error() string { return e.Code + ": " + e.Err.Error() }

// Unwrap is the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// AWS's values of ConnectionErrorCode that can come up here.
const (
	ConnectInternalError      = "INTERNAL_ERROR"
	ConnectNetworkErrors      = "NETWORK_ERRORS"
	ConnectClusterNotFound    = "CLUSTER_NOT_FOUND"
	ConnectInsufficientHSMs   = "INSUFFICIENT_CLOUDHSM_HSMS"
	ConnectInvalidCredentials = "INVALID_CREDENTIALS"
	ConnectUserLockedOut      = "USER_LOCKED_OUT"
	ConnectUserLoggedIn       = "USER_LOGGED_IN"
	ConnectUserNotFound       = "USER_NOT_FOUND"
)

func connectErrorCode(err error) string {
	var e *ConnectError
	switch {
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.DeadlineExceeded):
		return ConnectNetworkErrors
	default:
		return ConnectInternalError
	}
}

// connections are the custom key stores that this node knows, and its logins. The
// row in the store says whether a key store is to be connected; each node logs in
// by itself, when a key of it is first used there, and again after a restart.
type connections struct {
	life context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup // background logins

	mu     sync.Mutex // guards the map, not what a connection has inside
	stores map[keyStoreName]*connection
}

type keyStoreName struct{ account, region, id string }

func (ks *KeyStore) name() keyStoreName { return keyStoreName{ks.Account, ks.Region, ks.ID} }

// connection is a key store on this node.
type connection struct {
	mu      sync.Mutex // held while logging in, or writing that it was done: others wait for the same login
	row     *KeyStore  // as last read; nil if it is not there
	backend Backend    // nil if this node is not logged in
	login   time.Time  // the row's Since that the login belongs to
	err     error      // why this node could not log in
	retry   time.Time  // when it may try again
}

func (cs *connections) init() {
	cs.life, cs.stop = context.WithCancel(context.Background()) // of the service, not of a request
	cs.stores = map[keyStoreName]*connection{}
}

// get is the connection of a key store, known from now on.
func (cs *connections) get(n keyStoreName) (cn *connection, known bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cn, known = cs.stores[n]
	if !known {
		cn = &connection{}
		cs.stores[n] = cn
	}
	return cn, known
}

// close ends all logins and waits for those under way.
func (cs *connections) close() {
	cs.stop()
	cs.wg.Wait()
	for _, cn := range cs.known() {
		cn.mu.Lock()
		cn.logout()
		cn.mu.Unlock()
	}
}

// known are the key stores that this node knows.
func (cs *connections) known() map[keyStoreName]*connection {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return maps.Clone(cs.stores)
}

// logout needs the connection's mutex. Whoever has taken the backend may still be
// using it.
func (cn *connection) logout() {
	if c, can := cn.backend.(io.Closer); can {
		c.Close()
	}
	cn.backend = nil
}

// set takes over a row as it was read or written, nil if it is gone. It needs the
// connection's mutex.
func (cn *connection) set(row *KeyStore) {
	if row != nil && cn.row != nil && row.Version < cn.row.Version {
		return // read before what is known was written
	}
	if cn.backend != nil && (row == nil || row.State != Connected || !row.Since.Equal(cn.login)) {
		cn.logout()
	}
	if row != nil && (cn.row == nil || row.Version != cn.row.Version) {
		cn.err, cn.retry = nil, time.Time{}
	}
	cn.row = row
}

// keyStore is the row of a key store as this node knows it, with the backend if it
// is logged in, which it tries if it should be. err says why it is not.
func (s *Service) keyStore(ctx context.Context, n keyStoreName) (row *KeyStore, b Backend, err error) {
	cn, known := s.connected.get(n)
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if !known || cn.row == nil {
		row, err := s.store.KeyStore(ctx, n.account, n.region, n.id)
		if errors.Is(err, ErrNoRow) {
			s.connected.drop(n, cn)
		}
		if err != nil {
			return nil, nil, err
		}
		cn.set(row)
	}
	if cn.row.State != Connected || cn.backend != nil {
		return cn.row, cn.backend, nil
	}
	if s.now().Before(cn.retry) {
		return cn.row, nil, cn.err
	}
	// Not in the time of the request: others wait for the same login.
	if b, err = s.login(s.connected.life, cn.row); err != nil {
		cn.err, cn.retry = err, s.now().Add(reconnectAfter)
		s.log.WarnContext(ctx, "custom key store is connected, but not from this node",
			slog.String("key_store", n.id), slog.String("code", connectErrorCode(err)), slog.Any("error", err))
		return cn.row, nil, err
	}
	cn.backend, cn.login, cn.err = b, cn.row.Since, nil
	return cn.row, b, nil
}

// drop forgets a key store that is not there.
func (cs *connections) drop(n keyStoreName, cn *connection) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.stores[n] == cn {
		delete(cs.stores, n)
	}
}

// passwordLabel binds a sealed password to its key store.
func (ks *KeyStore) passwordLabel() string {
	return "cardea kms key store password v1 " + ks.Account + " " + ks.Region + " " + ks.ID
}

func (s *Service) sealPassword(ctx context.Context, ks *KeyStore, p secret.Bytes) error {
	sealed, err := s.secrets.SealSecret(ctx, ks.passwordLabel(), p)
	if err != nil {
		return backendError(err)
	}
	ks.Password = sealed
	return nil
}

// login logs in to the key store's cluster.
func (s *Service) login(ctx context.Context, ks *KeyStore) (Backend, error) {
	if !s.hasCluster(ks.ClusterID) {
		return nil, &ConnectError{ConnectClusterNotFound, errors.New("no such cluster is configured: " + ks.ClusterID)}
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	p, err := s.secrets.OpenSecret(ctx, ks.passwordLabel(), ks.Password)
	if err != nil {
		return nil, err
	}
	defer p.Destroy()
	return s.keyStores.Connect(ctx, ks.ClusterID, p)
}

func (s *Service) hasCluster(id string) bool {
	if s.keyStores == nil {
		return false
	}
	_, has := s.keyStores.Clusters()[id]
	return has
}

// finishConnecting logs in to a key store that is CONNECTING and writes what came
// of it, with an entry.
func (s *Service) finishConnecting(ctx context.Context, ks *KeyStore) {
	b, lerr := s.login(ctx, ks)
	if lerr != nil && ctx.Err() != nil { // the node ends: another takes over
		return
	}
	// Until this node has the login nobody may find the row CONNECTED: they would be told
	// that it is CONNECTING still, or log in once more.
	cn, _ := s.connected.get(ks.name())
	cn.mu.Lock()
	defer cn.mu.Unlock()
	var now *KeyStore
	err := s.do(ctx, system("connection", ks.Region, ks.Account), OpFinishConnection, nil, func(c *call) error {
		c.entry.Resource.Kind = "key_store"
		c.param("customKeyStoreId", ks.ID)
		next := *ks
		next.State, next.Since = Connected, c.at
		if lerr != nil {
			next.State, next.ErrorCode = ConnectFailed, connectErrorCode(lerr)
			c.entry.Detail = lerr.Error()
		}
		c.result("connectionState", string(next.State))
		c.result("connectionErrorCode", next.ErrorCode)
		if err := c.allow("*"); err != nil {
			return err
		}
		err := c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) { return nil, tx.PutKeyStore(ctx, &next) })
		if errors.Is(err, errStale) { // disconnected or taken over meanwhile
			return c.nothing()
		}
		if err == nil {
			now = &next
			now.Version++
		}
		return err
	})
	if now == nil {
		if c, can := b.(io.Closer); can {
			c.Close()
		}
		if err != nil {
			s.log.WarnContext(ctx, "outcome of connecting a custom key store not written", slog.String("key_store", ks.ID), slog.Any("error", err))
		}
		return
	}
	cn.set(now)
	if lerr == nil {
		cn.backend, cn.login = b, now.Since
	}
}

// connectInBackground runs finishConnecting, which Close waits for.
func (s *Service) connectInBackground(ks *KeyStore) {
	s.connected.wg.Go(func() { s.finishConnecting(s.connected.life, ks) })
}

// refreshKeyStores reads again what this node knows of key stores, so that it
// leaves those that were disconnected elsewhere, and takes over connecting from
// nodes that died of it.
func (s *Service) refreshKeyStores(ctx context.Context, now time.Time) error {
	var failed error
	for n, cn := range s.connected.known() {
		row, err := s.store.KeyStore(ctx, n.account, n.region, n.id)
		if err != nil && !errors.Is(err, ErrNoRow) {
			failed = err
			continue
		}
		if err != nil {
			row = nil
			s.connected.drop(n, cn)
		}
		if !cn.mu.TryLock() { // logging in; the next time will do
			continue
		}
		cn.set(row)
		cn.mu.Unlock()
		if row != nil && row.State == Connecting && now.Sub(row.Since) >= 2*connectTimeout {
			s.takeOver(ctx, row)
		}
	}
	return failed
}

// takeOver begins anew to connect a key store whose node has died of it.
func (s *Service) takeOver(ctx context.Context, ks *KeyStore) {
	next := *ks
	err := s.do(ctx, system("connection", ks.Region, ks.Account), OpConnectCustomKeyStore, nil, func(c *call) error {
		c.entry.Resource.Kind = "key_store"
		c.param("customKeyStoreId", ks.ID)
		if err := c.allow("*"); err != nil {
			return err
		}
		next.Since = c.at
		err := c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) { return nil, tx.PutKeyStore(ctx, &next) })
		if errors.Is(err, errStale) {
			next.ID = "" // by another node
			return c.nothing()
		}
		return err
	})
	if err == nil && next.ID != "" {
		next.Version++
		s.connectInBackground(&next)
	}
}

// keyStoreBackend is the backend of a key in a custom key store. It may wait for a login.
func (s *Service) keyStoreBackend(k *Key) (Backend, error) {
	ks, b, err := s.keyStore(s.connected.life, keyStoreName{k.Account, k.Region, k.KeyStoreID})
	switch {
	case b != nil:
		return b, nil
	case k.ID == "" && errors.Is(err, ErrNoRow):
		return nil, keyStoreNotFound(k.KeyStoreID)
	case ks == nil:
		return nil, broken(CodeInternal, "The custom key store could not be read.", err)
	case k.ID == "" && ks.State != Connected:
		return nil, refuse(codeKeyStoreState, "Custom key store "+ks.ID+" is "+string(ks.State)+"; it must be CONNECTED.")
	}
	return nil, &Error{Code: CodeInvalidState, Message: k.ARN() + unavailable(ks, err)}
}

// unavailable is the text for a key that cannot be used because of its key store.
func unavailable(ks *KeyStore, err error) string {
	text := " is unavailable because its custom key store " + ks.ID + " is " + string(ks.State)
	switch {
	case ks.State == ConnectFailed:
		text += " (" + ks.ErrorCode + ")"
	case ks.State == Connected && err != nil:
		text += ", but cannot be reached from here (" + connectErrorCode(err) + ")"
	}
	return text + "."
}

// available is k as it can be used now: a key in a custom key store that is not
// connected is Unavailable, whatever else it is. The stored state stays, and comes
// back with the connection.
func (s *Service) available(ctx context.Context, k *live) (*live, error) {
	if k.KeyStoreID == "" || k.State != StateEnabled && k.State != StateDisabled {
		return k, nil
	}
	ks, b, err := s.keyStore(ctx, keyStoreName{k.Account, k.Region, k.KeyStoreID})
	if b != nil {
		return k, nil
	}
	if ks == nil {
		return nil, err
	}
	row := *k.Key
	row.State = StateUnavailable
	return &live{Key: &row, arn: k.arn, policy: k.policy, unavailable: k.arn + unavailable(ks, err)}, nil
}

// checkFor is Key's, but says why a key is unavailable.
func (k *live) checkFor(op *Operation) error {
	err := k.Key.checkFor(op)
	if err == nil {
		return nil
	}
	var e *Error
	if k.unavailable != "" && errors.As(err, &e) && e.Code == CodeInvalidState {
		return refuse(CodeInvalidState, k.unavailable)
	}
	return err
}

// clusterOf is the cluster of the key's custom key store, "" if it has none or it
// is not known on this node.
func (s *Service) clusterOf(k *Key) string {
	s.connected.mu.Lock()
	cn := s.connected.stores[keyStoreName{k.Account, k.Region, k.KeyStoreID}]
	s.connected.mu.Unlock()
	if cn == nil {
		return ""
	}
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.row == nil {
		return ""
	}
	return cn.row.ClusterID
}
