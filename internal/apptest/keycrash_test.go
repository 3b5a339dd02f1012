package apptest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// crashKey is a key as its clients know it: what was acknowledged.
type crashKey struct {
	arn       string
	aliases   []string
	grants    []string
	tags      map[string]string
	rotations int
	sealed    []sealed
	deletion  time.Time // when it is to be deleted, if that was acknowledged
	unsure    bool      // its deletion was asked for and not answered
}

// sealed is a ciphertext and what it must open to.
type sealed struct {
	blob, plaintext []byte
	context         map[string]string
}

// keyHistory is what all clients of a crash test were told.
type keyHistory struct {
	mu         sync.Mutex
	keys       []*crashKey
	answered   map[string]string // request id -> operation in the log
	counts     map[string]int
	unexpected []string
}

// TestKeyServiceCrash kills the key service with SIGKILL in the middle of load, many
// times over. Afterwards every acknowledged key, alias, grant, tag, rotation and
// deletion is there, every ciphertext that was given out opens, and the audit log
// verifies and has an entry for every answer given.
func TestKeyServiceCrash(t *testing.T) {
	t.Parallel()
	for name := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := installKeys(t, name)
			h := &keyHistory{answered: map[string]string{}, counts: map[string]int{}}
			for round := range *rounds {
				n := in.start(t)
				if round == 0 {
					in.bootstrap(t)
				}
				c := sdk(n, in.creds, 16)
				h.verify(t, c, h.some(40), false)
				h.load(t, c, round, func() { n.kill(t) })
			}
			n := in.start(t)
			h.verify(t, sdk(n, in.creds, 16), h.keys, true)
			n.stop(t)
			in.verifyKeyAudit(t, h)
			for _, u := range h.unexpected {
				t.Error(u)
			}
			t.Logf("%d kills: %v acknowledged, all kept; %d answers, all in the audit log", *rounds, h.counts, len(h.answered))
			if h.counts["Encrypt"] < *rounds || h.counts["CreateGrant"] < *rounds {
				t.Error("too few to say anything")
			}
		})
	}
}

// load runs clients until kill, which comes at a random moment. They share one key
// and have keys of their own.
func (h *keyHistory) load(t *testing.T, c *kms.Client, round int, kill func()) {
	ctx := t.Context()
	shared := h.createKey(ctx, c)
	if shared == nil {
		t.Fatal("no key can be made before the load")
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 12 {
		wg.Go(func() { h.client(ctx, c, shared, fmt.Sprintf("r%d-w%d", round, w), stop) })
	}
	untilAnswered(t, 120+rand.IntN(600), h.answers, &wg) // each client has made a grant by then
	kill()
	close(stop)
	wg.Wait()
}

// untilAnswered waits until clients have got n answers more, so that on a slow machine
// as on a fast one there is something to lose when the node is killed. It does not wait
// for clients that have all given up.
func untilAnswered(t *testing.T, n int, answers func() int, clients *sync.WaitGroup) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		clients.Wait()
	}()
	enough := answers() + n
	until(t, "there are answers to lose", func() bool {
		select {
		case <-ended:
			return true
		default:
			return answers() >= enough
		}
	})
}

// answers is how many answers there were so far.
func (h *keyHistory) answers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.answered)
}

// client uses keys until it is stopped or the node is gone.
func (h *keyHistory) client(ctx context.Context, c *kms.Client, shared *crashKey, name string, stop <-chan struct{}) {
	var mine *crashKey
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		if i%24 == 0 {
			if mine = h.createKey(ctx, c); mine == nil {
				return
			}
		}
		id := fmt.Sprintf("%s-%d", name, i)
		k := mine
		if i%3 == 1 {
			k = shared
		}
		if !h.use(ctx, c, k, mine, i%24, id) {
			return
		}
	}
}

// use makes the request of a step. It returns false if no answer came.
func (h *keyHistory) use(ctx context.Context, c *kms.Client, k, mine *crashKey, step int, id string) bool {
	key := aws.String(k.arn)
	switch step {
	case 3, 9:
		alias := "alias/" + id
		out, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: key})
		return h.told("CreateAlias", "kms.create_alias", metadata(out), err, func() { k.aliases = append(k.aliases, alias) })
	case 4, 10, 16, 20:
		out, err := c.CreateGrant(ctx, &kms.CreateGrantInput{
			KeyId: key, GranteePrincipal: aws.String("arn:aws:iam::" + keyAccount + ":user/admin"), Operations: []types.GrantOperation{types.GrantOperationDecrypt},
			Name: aws.String(id),
		})
		return h.told("CreateGrant", "kms.create_grant", metadata(out), err, func() { k.grants = append(k.grants, *out.GrantId) })
	case 6:
		out, err := c.TagResource(ctx, &kms.TagResourceInput{KeyId: &mine.arn, Tags: []types.Tag{{TagKey: aws.String("by"), TagValue: aws.String(id)}}})
		return h.told("TagResource", "kms.tag_resource", metadata(out), err, func() { mine.tags["by"] = id })
	case 8, 14:
		out, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &mine.arn})
		return h.told("RotateKeyOnDemand", "kms.rotate_key_on_demand", metadata(out), err, func() { mine.rotations++ })
	case 23:
		h.mark(func() { mine.unsure = true })
		out, err := c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &mine.arn, PendingWindowInDays: aws.Int32(7)})
		return h.told("ScheduleKeyDeletion", "kms.schedule_key_deletion", metadata(out), err, func() { mine.deletion, mine.unsure = *out.DeletionDate, false })
	case 2, 7, 12, 17, 22:
		pairs := map[string]string{"id": id}
		out, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256, EncryptionContext: pairs})
		return h.told("GenerateDataKey", "kms.generate_data_key", metadata(out), err, func() {
			k.sealed = append(k.sealed, sealed{out.CiphertextBlob, out.Plaintext, pairs})
		})
	default:
		text, pairs := []byte("plaintext "+id), map[string]string{"id": id}
		out, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: text, EncryptionContext: pairs})
		return h.told("Encrypt", "kms.encrypt", metadata(out), err, func() { k.sealed = append(k.sealed, sealed{out.CiphertextBlob, text, pairs}) })
	}
}

func (h *keyHistory) createKey(ctx context.Context, c *kms.Client) *crashKey {
	out, err := c.CreateKey(ctx, &kms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("made"), TagValue: aws.String("by a test")}}})
	var k *crashKey
	h.told("CreateKey", "kms.create_key", metadata(out), err, func() {
		k = &crashKey{arn: *out.KeyMetadata.Arn, tags: map[string]string{"made": "by a test"}}
		h.keys = append(h.keys, k)
	})
	return k
}

// metadata is that of an output, which may be nil.
func metadata(out any) middleware.Metadata {
	switch o := out.(type) {
	case *kms.CreateKeyOutput:
		if o != nil {
			return o.ResultMetadata
		}
	case *kms.CreateAliasOutput:
		if o != nil {
			return o.ResultMetadata
		}
	case *kms.CreateGrantOutput:
		if o != nil {
			return o.ResultMetadata
		}
	case *kms.TagResourceOutput:
		if o != nil {
			return o.ResultMetadata
		}
	case *kms.RotateKeyOnDemandOutput:
		if o != nil {
			return o.ResultMetadata
		}
	case *kms.ScheduleKeyDeletionOutput:
		if o != nil {
			return o.ResultMetadata
		}
	case *kms.GenerateDataKeyOutput:
		if o != nil {
			return o.ResultMetadata
		}
	case *kms.EncryptOutput:
		if o != nil {
			return o.ResultMetadata
		}
	}
	return middleware.Metadata{}
}

// told notes an answer, and returns false if none came. No refusal is expected.
func (h *keyHistory) told(name, op string, m middleware.Metadata, err error, done func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		var answer *awshttp.ResponseError
		var api smithy.APIError
		if errors.As(err, &answer) && errors.As(err, &api) && answer.ServiceRequestID() != "" {
			h.answered[answer.ServiceRequestID()] = op
			h.unexpected = append(h.unexpected, name+": "+api.ErrorCode()+": "+api.ErrorMessage())
		}
		return false
	}
	if id, ok := awsmiddleware.GetRequestIDMetadata(m); ok {
		h.answered[id] = op
	} else {
		h.unexpected = append(h.unexpected, name+": an answer without a request id")
	}
	h.counts[name]++
	done()
	return true
}

func (h *keyHistory) mark(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// some are the last n keys and as many others.
func (h *keyHistory) some(n int) []*crashKey {
	if len(h.keys) <= 2*n {
		return h.keys
	}
	last := slices.Clone(h.keys[len(h.keys)-n:])
	for range n {
		last = append(last, h.keys[rand.IntN(len(h.keys)-n)])
	}
	return last
}

// verify looks for all that was acknowledged of keys. The last time it also opens
// ciphertexts of keys that are to be deleted.
func (h *keyHistory) verify(t *testing.T, c *kms.Client, keys []*crashKey, last bool) {
	t.Helper()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, k := range keys {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := k.verify(t.Context(), c, last); err != nil {
				t.Errorf("key %s: %v", k.arn, err)
			}
		})
	}
	wg.Wait()
}

func (k *crashKey) verify(ctx context.Context, c *kms.Client, last bool) error {
	d, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &k.arn})
	if err != nil {
		return fmt.Errorf("an acknowledged key is lost: %w", err)
	}
	pending := d.KeyMetadata.KeyState == types.KeyStatePendingDeletion
	switch {
	case k.unsure:
	case !k.deletion.IsZero() && (!pending || d.KeyMetadata.DeletionDate.Sub(k.deletion).Abs() > time.Millisecond):
		return fmt.Errorf("an acknowledged deletion is lost: the key is %s, to be deleted at %v", d.KeyMetadata.KeyState, d.KeyMetadata.DeletionDate)
	case k.deletion.IsZero() && d.KeyMetadata.KeyState != types.KeyStateEnabled:
		return fmt.Errorf("the key is %s", d.KeyMetadata.KeyState)
	}
	if err := k.verifyLists(ctx, c); err != nil {
		return err
	}
	if pending {
		if !last {
			return nil
		}
		if err := revive(ctx, c, k.arn); err != nil {
			return err
		}
	}
	for _, s := range k.sealed {
		out, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: s.blob, EncryptionContext: s.context})
		if err != nil {
			return fmt.Errorf("an acknowledged ciphertext does not open: %w", err)
		}
		if !bytes.Equal(out.Plaintext, s.plaintext) {
			return errors.New("an acknowledged ciphertext opens to something else")
		}
	}
	return nil
}

// revive takes a deletion back, so that the key's ciphertexts can be opened.
func revive(ctx context.Context, c *kms.Client, arn string) error {
	if _, err := c.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &arn}); err != nil {
		return err
	}
	_, err := c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &arn})
	return err
}

// verifyLists looks for the key's aliases, grants, tags and rotations.
func (k *crashKey) verifyLists(ctx context.Context, c *kms.Client) error {
	aliases := map[string]bool{}
	for p := kms.NewListAliasesPaginator(c, &kms.ListAliasesInput{KeyId: &k.arn}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, a := range page.Aliases {
			aliases[*a.AliasName] = true
		}
	}
	grants := map[string]bool{}
	for p := kms.NewListGrantsPaginator(c, &kms.ListGrantsInput{KeyId: &k.arn}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, g := range page.Grants {
			grants[*g.GrantId] = true
		}
	}
	tags := map[string]string{}
	for p := kms.NewListResourceTagsPaginator(c, &kms.ListResourceTagsInput{KeyId: &k.arn}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, tag := range page.Tags {
			tags[*tag.TagKey] = *tag.TagValue
		}
	}
	rotations := 0
	for p := kms.NewListKeyRotationsPaginator(c, &kms.ListKeyRotationsInput{KeyId: &k.arn}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			return err
		}
		rotations += len(page.Rotations)
	}
	for _, a := range k.aliases {
		if !aliases[a] {
			return fmt.Errorf("the acknowledged %s is lost", a)
		}
	}
	for _, g := range k.grants {
		if !grants[g] {
			return fmt.Errorf("the acknowledged grant %s is lost", g)
		}
	}
	for name, value := range k.tags {
		if tags[name] != value && !strings.HasPrefix(tags[name], "r") { // a later tag may not have been answered
			return fmt.Errorf("the acknowledged tag %s=%s is lost, there is %q", name, value, tags[name])
		}
	}
	if rotations < k.rotations {
		return fmt.Errorf("%d rotations, %d were acknowledged", rotations, k.rotations)
	}
	return nil
}

// verifyKeyAudit proves the log and looks for every answer in it.
func (in *keyInstallation) verifyKeyAudit(t *testing.T, h *keyHistory) {
	t.Helper()
	in.run(t, "audit", "verify", "--config", in.config, "--key-service")
	logged := map[string][]string{}
	s := bufio.NewScanner(bytes.NewReader(in.run(t, "audit", "show", "--config", in.config, "--key-service", "--output", "json")))
	for s.Buffer(nil, 1<<20); s.Scan(); {
		var line struct {
			Entry struct {
				Request string `json:"request"`
				Op      string `json:"op"`
			} `json:"entry"`
		}
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatalf("audit show printed a line that is not JSON: %v", err)
		}
		logged[line.Entry.Request] = append(logged[line.Entry.Request], line.Entry.Op)
	}
	wrong := 0
	for id, op := range h.answered {
		want := []string{op}
		if op == "kms.rotate_key_on_demand" {
			want = append(want, "kms.rotate_key") // what CloudTrail tells of a rotation besides
		}
		slices.Sort(logged[id])
		slices.Sort(want)
		if !slices.Equal(logged[id], want) {
			wrong++
			t.Logf("%v instead of %v", logged[id], want)
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d answers do not have their entry in the audit log, or have more", wrong, len(h.answered))
	}
}
