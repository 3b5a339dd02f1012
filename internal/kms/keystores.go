package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of members of custom key stores.
const (
	maxKeyStoreName = 256
	maxKeyStoreID   = 64
	minClusterID    = 19
	maxClusterID    = 24
	maxTrustAnchor  = 5000
	minPassword     = 7
	maxPassword     = 32
)

// Codes of custom key stores.
const (
	codeKeyStoreNotFound  Code = "CustomKeyStoreNotFoundException"
	codeKeyStoreState     Code = "CustomKeyStoreInvalidStateException"
	codeKeyStoreNameInUse Code = "CustomKeyStoreNameInUseException"
	codeKeyStoreHasKeys   Code = "CustomKeyStoreHasCMKsException"
	codeClusterNotFound   Code = "CloudHsmClusterNotFoundException"
	codeClusterInUse      Code = "CloudHsmClusterInUseException"
	codeClusterNotRelated Code = "CloudHsmClusterNotRelatedException"
	codeTrustAnchor       Code = "IncorrectTrustAnchorException"
)

func (in *CreateCustomKeyStoreInput) check(v *violations) {
	if v.required("customKeyStoreName", in.CustomKeyStoreName != "") {
		v.chars("customKeyStoreName", in.CustomKeyStoreName, 1, maxKeyStoreName)
	}
	enum(v, "customKeyStoreType", in.CustomKeyStoreType, KeyStoreCloudHSM, KeyStoreXKS)
	v.cluster(in.CloudHSMClusterID)
	v.text("trustAnchorCertificate", in.TrustAnchorCertificate, maxTrustAnchor)
	v.password(in.KeyStorePassword)
}

func (in *UpdateCustomKeyStoreInput) check(v *violations) {
	v.keyStoreID(in.CustomKeyStoreID)
	if in.NewCustomKeyStoreName != "" {
		v.chars("newCustomKeyStoreName", in.NewCustomKeyStoreName, 1, maxKeyStoreName)
	}
	v.cluster(in.CloudHSMClusterID)
	v.password(in.KeyStorePassword)
}

func (in *DeleteCustomKeyStoreInput) check(v *violations)     { v.keyStoreID(in.CustomKeyStoreID) }
func (in *ConnectCustomKeyStoreInput) check(v *violations)    { v.keyStoreID(in.CustomKeyStoreID) }
func (in *DisconnectCustomKeyStoreInput) check(v *violations) { v.keyStoreID(in.CustomKeyStoreID) }

func (v *violations) keyStoreID(id string) {
	if v.required("customKeyStoreId", id != "") {
		v.length("customKeyStoreId", id, len(id), 1, maxKeyStoreID)
	}
}

func (v *violations) cluster(id string) {
	if id != "" {
		v.length("cloudHsmClusterId", id, len(id), minClusterID, maxClusterID)
	}
}

func (v *violations) password(p Password) {
	if p.Present() {
		v.length("keyStorePassword", "", utf8.RuneCount(p.Expose()), minPassword, maxPassword)
	}
}

// CreateCustomKeyStore registers a cluster of the configuration as a place for
// keys. It is DISCONNECTED: nobody has tried the password yet.
func (s *Service) CreateCustomKeyStore(ctx context.Context, who Caller, in *CreateCustomKeyStoreInput) (*CreateCustomKeyStoreOutput, error) {
	return perform(ctx, s, who, OpCreateCustomKeyStore, in, func(c *call, out *CreateCustomKeyStoreOutput) error {
		c.entry.Resource.Kind = "key_store"
		c.param("customKeyStoreName", in.CustomKeyStoreName)
		c.param("customKeyStoreType", string(in.CustomKeyStoreType))
		c.param("cloudHsmClusterId", in.CloudHSMClusterID)
		if err := c.allow("*"); err != nil {
			return err
		}
		if err := s.vetKeyStore(in); err != nil {
			return err
		}
		ks := &KeyStore{
			Account: c.who.account(), Region: c.who.Region, ID: newKeyStoreID(), Name: in.CustomKeyStoreName, Type: KeyStoreCloudHSM,
			ClusterID: in.CloudHSMClusterID, TrustAnchor: in.TrustAnchorCertificate, State: Disconnected, Since: c.at, CreatedAt: c.at,
		}
		if err := s.sealPassword(ctx, ks, in.KeyStorePassword.Bytes); err != nil {
			return err
		}
		out.CustomKeyStoreID = ks.ID
		c.result("customKeyStoreId", ks.ID)
		return c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
			all, err := tx.KeyStores(ctx, ks.Account, ks.Region, "", maxLimit)
			if err != nil {
				return nil, err
			}
			if len(all) >= s.limits.KeyStores {
				return nil, refuse(CodeLimitExceeded, "The account has "+strconv.Itoa(len(all))+" custom key stores in the Region, which is the limit.")
			}
			if err := s.vetUnique(ctx, tx, ks); err != nil {
				return nil, err
			}
			return nil, tx.PutKeyStore(ctx, ks)
		})
	})
}

// newKeyStoreID is cks- and 17 hexadecimal digits, as AWS's: clients take no longer one.
// There is a letter among those in the middle, so that there are never 13 decimal digits
// in a row, which the log could take for a card number and mask.
func newKeyStoreID() string {
	const digits = 17
	for {
		var b [(digits + 1) / 2]byte
		rand.Read(b[:])
		id := hex.EncodeToString(b[:])[:digits]
		if strings.ContainsAny(id[4:13], "abcdef") { // 13 in a row would have all of these
			return "cks-" + id
		}
	}
}

// vetKeyStore refuses what no key store can be made of.
func (s *Service) vetKeyStore(in *CreateCustomKeyStoreInput) error {
	if in.CustomKeyStoreType == KeyStoreXKS {
		return refuse(CodeUnsupported, "Custom key stores of type EXTERNAL_KEY_STORE are not supported.")
	}
	if in.XksProxyConnectivity != "" || in.XksProxyURIEndpoint != "" || in.XksProxyURIPath != "" ||
		in.XksProxyVpcEndpointServiceName != "" || in.XksProxyVpcEndpointServiceOwner != "" {
		return refuse(CodeValidation, errXKSMember)
	}
	switch {
	case in.CloudHSMClusterID == "":
		return refuse(CodeValidation, "CloudHsmClusterId is required for custom key stores of type AWS_CLOUDHSM.")
	case !in.KeyStorePassword.Present():
		return refuse(CodeValidation, "KeyStorePassword is required for custom key stores of type AWS_CLOUDHSM.")
	case in.TrustAnchorCertificate == "":
		return refuse(CodeValidation, "TrustAnchorCertificate is required for custom key stores of type AWS_CLOUDHSM.")
	}
	if err := s.vetCluster(in.CloudHSMClusterID); err != nil {
		return err
	}
	if !sameCertificate(in.TrustAnchorCertificate, s.keyStores.Clusters()[in.CloudHSMClusterID]) {
		return refuse(codeTrustAnchor, "The trust anchor certificate is not that of cluster "+in.CloudHSMClusterID+".")
	}
	return nil
}

const errXKSMember = "The XksProxy parameters are valid only for custom key stores of type EXTERNAL_KEY_STORE."

func (s *Service) vetCluster(id string) error {
	if !s.hasCluster(id) {
		return refuse(codeClusterNotFound, "Cluster "+id+" does not exist.")
	}
	return nil
}

// sameCertificate reports whether two PEM texts hold the same certificate. If the
// configuration names none, any will do.
func sameCertificate(given, configured string) bool {
	g, rest := pem.Decode([]byte(given))
	if g == nil || g.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return false
	}
	c, _ := pem.Decode([]byte(configured))
	return configured == "" || c != nil && bytes.Equal(g.Bytes, c.Bytes)
}

// vetUnique refuses a name that another key store of the account and Region has, and
// a cluster that belongs to another key store of the account.
func (s *Service) vetUnique(ctx context.Context, tx Tx, ks *KeyStore) error {
	for _, region := range s.regions {
		others, err := tx.KeyStores(ctx, ks.Account, region, "", maxLimit)
		if err != nil {
			return err
		}
		for i := range others {
			o := &others[i]
			switch {
			case o.ID == ks.ID:
			case o.Name == ks.Name && o.Region == ks.Region:
				return refuse(codeKeyStoreNameInUse, "The custom key store name "+cut(ks.Name)+" is already in use.")
			case o.ClusterID == ks.ClusterID:
				return refuse(codeClusterInUse, "Cluster "+ks.ClusterID+" is already associated with custom key store "+o.ID+".")
			}
		}
	}
	return nil
}

func keyStoreNotFound(id string) error {
	return refuse(codeKeyStoreNotFound, "Custom key store "+cut(id)+" does not exist.")
}

// changeKeyStore begins an operation on a key store: permission, then the row. It
// changes the row by change and writes it, unless it is not changed.
func (c *call) changeKeyStore(ctx context.Context, id string, change func(ctx context.Context, tx Tx, ks *KeyStore) error) (*KeyStore, error) {
	c.entry.Resource.Kind = "key_store"
	c.param("customKeyStoreId", id)
	if err := c.allow("*"); err != nil {
		return nil, err
	}
	var next KeyStore
	err := c.update(ctx, func(ctx context.Context, tx Tx) ([]Change, error) {
		now, err := tx.KeyStore(ctx, c.who.account(), c.who.Region, id)
		if errors.Is(err, ErrNoRow) {
			return nil, keyStoreNotFound(id)
		}
		if err != nil {
			return nil, err
		}
		next = *now
		if err := change(ctx, tx, &next); err != nil || next.ID == "" {
			return nil, err
		}
		return nil, tx.PutKeyStore(ctx, &next)
	})
	if err != nil {
		return nil, err
	}
	next.Version++
	return &next, nil
}

// UpdateCustomKeyStore changes a key store: its name at any time, its cluster, which
// must have the same trust anchor, and password while it is DISCONNECTED.
func (s *Service) UpdateCustomKeyStore(ctx context.Context, who Caller, in *UpdateCustomKeyStoreInput) error {
	return s.do(ctx, who, OpUpdateCustomKeyStore, in, func(c *call) error {
		c.param("newCustomKeyStoreName", in.NewCustomKeyStoreName)
		c.param("cloudHsmClusterId", in.CloudHSMClusterID)
		if in.XksProxyConnectivity != "" || in.XksProxyURIEndpoint != "" || in.XksProxyURIPath != "" ||
			in.XksProxyVpcEndpointServiceName != "" || in.XksProxyVpcEndpointServiceOwner != "" {
			return refuse(CodeValidation, errXKSMember)
		}
		var sealed KeyStore // for its password
		if in.KeyStorePassword.Present() {
			if err := c.allow("*"); err != nil {
				return err
			}
			sealed = KeyStore{Account: c.who.account(), Region: c.who.Region, ID: in.CustomKeyStoreID}
			if err := s.sealPassword(ctx, &sealed, in.KeyStorePassword.Bytes); err != nil {
				return err
			}
		}
		next, err := c.changeKeyStore(ctx, in.CustomKeyStoreID, func(ctx context.Context, tx Tx, ks *KeyStore) error {
			nameOnly := in.CloudHSMClusterID == "" && !in.KeyStorePassword.Present()
			if ks.State != Disconnected && (ks.State != Connected || !nameOnly) {
				return refuse(codeKeyStoreState, "Custom key store "+ks.ID+" is "+string(ks.State)+"; it must be DISCONNECTED.")
			}
			if in.NewCustomKeyStoreName != "" {
				ks.Name = in.NewCustomKeyStoreName
			}
			if sealed.Password != nil {
				ks.Password = sealed.Password
			}
			if id := in.CloudHSMClusterID; id != "" {
				if err := s.vetCluster(id); err != nil {
					return err
				}
				if !sameCertificate(ks.TrustAnchor, s.keyStores.Clusters()[id]) {
					return refuse(codeClusterNotRelated, "Cluster "+id+" has another trust anchor certificate than the custom key store.")
				}
				ks.ClusterID = id
			}
			return s.vetUnique(ctx, tx, ks)
		})
		if err == nil {
			s.learn(next)
		}
		return err
	})
}

// DeleteCustomKeyStore forgets a key store that is DISCONNECTED and has no keys.
func (s *Service) DeleteCustomKeyStore(ctx context.Context, who Caller, in *DeleteCustomKeyStoreInput) error {
	return s.do(ctx, who, OpDeleteCustomKeyStore, in, func(c *call) error {
		_, err := c.changeKeyStore(ctx, in.CustomKeyStoreID, func(ctx context.Context, tx Tx, ks *KeyStore) error {
			if ks.State != Disconnected {
				return refuse(codeKeyStoreState, "Custom key store "+ks.ID+" is "+string(ks.State)+"; it must be DISCONNECTED.")
			}
			n, err := tx.CountKeys(ctx, ks.Account, ks.Region, ks.ID)
			if err != nil {
				return err
			}
			if n > 0 {
				return refuse(codeKeyStoreHasKeys, "Custom key store "+ks.ID+" contains "+strconv.Itoa(n)+" KMS keys.")
			}
			id := ks.ID
			ks.ID = "" // nothing is written
			return tx.DeleteKeyStore(ctx, ks.Account, ks.Region, id)
		})
		return err
	})
}

// ConnectCustomKeyStore begins to log in to the key store's cluster and answers at
// once; DescribeCustomKeyStores tells how it went. Of one that is connected, or
// being connected, it changes nothing.
func (s *Service) ConnectCustomKeyStore(ctx context.Context, who Caller, in *ConnectCustomKeyStoreInput) error {
	return s.do(ctx, who, OpConnectCustomKeyStore, in, func(c *call) error {
		begin := false
		next, err := c.changeKeyStore(ctx, in.CustomKeyStoreID, func(_ context.Context, _ Tx, ks *KeyStore) error {
			switch ks.State {
			case Connected, Connecting:
				begin, ks.ID = false, ""
			case Disconnected:
				begin = true
				ks.State, ks.Since, ks.ErrorCode = Connecting, c.at, ""
			case ConnectFailed, Disconnecting:
				return refuse(codeKeyStoreState, "Custom key store "+ks.ID+" is "+string(ks.State)+"; disconnect it first.")
			}
			return nil
		})
		if err == nil && begin {
			s.learn(next)
			s.connectInBackground(next)
		}
		return err
	})
}

// DisconnectCustomKeyStore ends the use of a key store's keys, at once on this node
// and within the interval of the jobs on others.
func (s *Service) DisconnectCustomKeyStore(ctx context.Context, who Caller, in *DisconnectCustomKeyStoreInput) error {
	return s.do(ctx, who, OpDisconnectCustomKeyStore, in, func(c *call) error {
		next, err := c.changeKeyStore(ctx, in.CustomKeyStoreID, func(_ context.Context, _ Tx, ks *KeyStore) error {
			if ks.State == Disconnected || ks.State == Disconnecting {
				return refuse(codeKeyStoreState, "Custom key store "+ks.ID+" is "+string(ks.State)+" already.")
			}
			ks.State, ks.Since, ks.ErrorCode = Disconnected, c.at, ""
			return nil
		})
		if err == nil {
			s.learn(next)
		}
		return err
	})
}

// learn makes this node know a row that it has written.
func (s *Service) learn(ks *KeyStore) {
	cn, _ := s.connected.get(ks.name())
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cn.set(ks)
}

func (in *DescribeCustomKeyStoresInput) check(v *violations) {
	v.text("customKeyStoreId", in.CustomKeyStoreID, maxKeyStoreID)
	if in.CustomKeyStoreName != "" {
		v.chars("customKeyStoreName", in.CustomKeyStoreName, 1, maxKeyStoreName)
	}
	v.page(in.Limit, in.Marker)
}

// markKeyStore is of the markers of DescribeCustomKeyStores.
const markKeyStore mark = 's'

// DescribeCustomKeyStores tells of one key store, by id or name, or lists those of
// the account and Region.
func (s *Service) DescribeCustomKeyStores(ctx context.Context, who Caller, in *DescribeCustomKeyStoresInput) (*DescribeCustomKeyStoresOutput, error) {
	return perform(ctx, s, who, OpDescribeCustomKeyStores, in, func(c *call, out *DescribeCustomKeyStoresOutput) error {
		c.entry.Resource.Kind = "key_store"
		c.param("customKeyStoreId", in.CustomKeyStoreID)
		c.param("customKeyStoreName", in.CustomKeyStoreName)
		if in.CustomKeyStoreID != "" && in.CustomKeyStoreName != "" {
			return refuse(CodeValidation, "You can specify either CustomKeyStoreId or CustomKeyStoreName, not both.")
		}
		if err := c.allow("*"); err != nil {
			return err
		}
		one := in.CustomKeyStoreID + in.CustomKeyStoreName
		other := func(ks KeyStore) bool {
			return in.CustomKeyStoreID != "" && ks.ID != in.CustomKeyStoreID || in.CustomKeyStoreName != "" && ks.Name != in.CustomKeyStoreName
		}
		rows, next, truncated, err := readPage(ctx, markKeyStore, in.Marker, pageSize(in.Limit, defaultList, mostInList),
			func(ks KeyStore) string { return ks.ID },
			func(ctx context.Context, after string, limit int) ([]KeyStore, error) {
				rows, err := s.store.KeyStores(ctx, c.who.account(), c.who.Region, after, max(limit, maxLimit))
				return slices.DeleteFunc(rows, other), err
			})
		if err != nil {
			return err
		}
		if one != "" && len(rows) == 0 && in.Marker == "" {
			return keyStoreNotFound(one)
		}
		out.CustomKeyStores, out.NextMarker, out.Truncated = []CustomKeyStoresListEntry{}, next, truncated
		for i := range rows {
			s.connected.get(rows[i].name()) // to take over if its node has died
			out.CustomKeyStores = append(out.CustomKeyStores, rows[i].entry())
		}
		return nil
	})
}

func (ks *KeyStore) entry() CustomKeyStoresListEntry {
	return CustomKeyStoresListEntry{
		CloudHSMClusterID: ks.ClusterID, ConnectionErrorCode: ks.ErrorCode, ConnectionState: ks.State, CreationDate: ks.CreatedAt,
		CustomKeyStoreID: ks.ID, CustomKeyStoreName: ks.Name, CustomKeyStoreType: ks.Type, TrustAnchorCertificate: ks.TrustAnchor,
	}
}
