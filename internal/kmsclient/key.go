package kmsclient

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"cardea/internal/iam"
)

const (
	multiRegion   = "mrk-" // how the id of a multi-Region key starts
	maxReplicas   = 16
	maxRegionName = 32
)

// Validate checks that the key can be asked for: a well-formed id, a Region, an
// endpoint that is a URL, and replicas only of a multi-Region key that is named by
// its id or key ARN. It does not call KMS.
func (k Key) Validate() error {
	_, err := k.normalise()
	return err
}

// normalise fills in what may be left out: the Region of an ARN, the ids of
// replicas.
func (k Key) normalise() (Key, error) {
	if err := checkID(k.ID); err != nil {
		return k, err
	}
	arn, isARN, err := keyARN(k.ID)
	if err != nil {
		return k, err
	}
	if k.Region == "" {
		k.Region = arn.Region
	}
	if err := checkRegion(k.Region); err != nil {
		return k, err
	}
	if isARN && k.Region != arn.Region {
		return k, fmt.Errorf("key %s is of Region %s, not %s", k.ID, arn.Region, k.Region)
	}
	if err := k.checkEndpoint(k.Endpoint); err != nil {
		return k, err
	}
	if len(k.Replicas) > 0 {
		k.Replicas, err = k.replicas(arn, isARN)
	}
	return k, err
}

func (k Key) replicas(arn iam.ARN, isARN bool) ([]Replica, error) {
	id := k.ID
	if isARN {
		id, _ = strings.CutPrefix(arn.Resource, "key/")
	}
	if !strings.HasPrefix(id, multiRegion) {
		return nil, fmt.Errorf("key %s has replicas, but is not a multi-Region key named by its id or key ARN", k.ID)
	}
	if len(k.Replicas) > maxReplicas {
		return nil, fmt.Errorf("key %s has %d replicas, at most %d are asked", k.ID, len(k.Replicas), maxReplicas)
	}
	out := make([]Replica, 0, len(k.Replicas))
	seen := map[string]bool{k.Region: true}
	for _, r := range k.Replicas {
		if err := checkRegion(r.Region); err != nil {
			return nil, fmt.Errorf("replica of key %s: %w", k.ID, err)
		}
		if seen[r.Region] {
			return nil, fmt.Errorf("key %s is named twice in Region %s", k.ID, r.Region)
		}
		seen[r.Region] = true
		want := k.ID
		if isARN {
			there := arn
			there.Region = r.Region
			want = there.String()
		}
		if r.ID == "" {
			r.ID = want
		}
		if r.ID != want {
			return nil, fmt.Errorf("%s is not the replica of key %s in Region %s, which is %s", printable(r.ID, 256), k.ID, r.Region, want)
		}
		if err := k.checkEndpoint(r.Endpoint); err != nil {
			return nil, fmt.Errorf("replica of key %s: %w", k.ID, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func checkID(id string) error {
	switch {
	case id == "":
		return errors.New("key without an id")
	case len(id) > 2048:
		return fmt.Errorf("key id of %d bytes, at most 2048 are", len(id))
	case strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("key id with spaces, control or non-ASCII characters")
	}
	return nil
}

// keyARN is the ARN that id is, if it is one.
func keyARN(id string) (arn iam.ARN, is bool, err error) {
	if !strings.HasPrefix(id, "arn:") {
		return iam.ARN{}, false, nil
	}
	if arn, err = iam.ParseARN(id); err != nil {
		return arn, true, fmt.Errorf("key %s: %w", printable(id, 256), err)
	}
	if arn.Service != "kms" || arn.Region == "" || arn.Account == "" ||
		!strings.HasPrefix(arn.Resource, "key/") && !strings.HasPrefix(arn.Resource, "alias/") {
		return arn, true, fmt.Errorf("%s is the ARN of neither a KMS key nor an alias", id)
	}
	return arn, true, nil
}

func checkRegion(r string) error {
	switch {
	case r == "":
		return errors.New("key without a Region")
	case len(r) > maxRegionName || strings.ContainsFunc(r, func(c rune) bool { return c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') }):
		return fmt.Errorf("%q is no name of a Region", printable(r, 64))
	}
	return nil
}

func (k Key) checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	if k.FIPS {
		return fmt.Errorf("endpoint %s beside fips: name the FIPS endpoint itself", printable(endpoint, 256))
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("endpoint %q: must be https://host or https://host:port", printable(endpoint, 256))
	}
	return nil
}

// checkPlain refuses plain HTTP to anywhere but this machine.
func (k Key) checkPlain() error {
	for i := -1; i < len(k.Replicas); i++ {
		endpoint := k.Endpoint
		if i >= 0 {
			endpoint = k.Replicas[i].Endpoint
		}
		u, err := url.Parse(endpoint)
		if err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
			return fmt.Errorf("endpoint %s: plain HTTP is for loopback only", endpoint)
		}
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback() || net.ParseIP(host).IsLoopback()
}

// keyName is a Key as a key of a map.
type keyName struct {
	id, region, endpoint, profile string
	fips                          bool
	replicas                      string
}

func (k Key) name() keyName {
	n := keyName{id: k.ID, region: k.Region, endpoint: k.Endpoint, profile: k.Profile, fips: k.FIPS}
	for _, r := range k.Replicas {
		n.replicas += r.ID + "\x00" + r.Region + "\x00" + r.Endpoint + "\x00"
	}
	return n
}

// names reports whether answer, the key of an answer, is the one that was asked for
// by id. Of an alias it can only tell that it is a key's. KMS answers with key ARNs;
// some that imitate it answer with ids.
func names(id, answer string) bool {
	want, wantARN, err := keyARN(id)
	if err != nil {
		return false
	}
	wanted, isKey := strings.CutPrefix(want.Resource, "key/")
	if !wantARN {
		wanted, isKey = id, !strings.HasPrefix(id, "alias/")
	}
	if isKey && answer == wanted {
		return true
	}
	got, is, err := keyARN(answer)
	if err != nil || !is || !strings.HasPrefix(got.Resource, "key/") {
		return false
	}
	switch {
	case wantARN && isKey:
		return answer == id
	case wantARN:
		return got.Partition == want.Partition && got.Region == want.Region && got.Account == want.Account
	}
	return !isKey || got.Resource == "key/"+id
}

// inRegion is the key ARN as it is in another Region; what is no ARN stays as it is.
func inRegion(arn, region string) string {
	a, err := iam.ParseARN(arn)
	if err != nil {
		return arn
	}
	a.Region = region
	return a.String()
}
