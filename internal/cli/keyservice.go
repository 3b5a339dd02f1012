package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"cardea/internal/adminapi"
	"cardea/internal/config"
	"cardea/internal/identity"
)

// keyServiceFlags say which running key service a command is about.
type keyServiceFlags struct {
	Config  []string `short:"c" type:"path" placeholder:"FILE" xor:"installation" help:"Configuration of the key service."`
	DataDir string   `type:"path" placeholder:"DIR" xor:"installation" help:"Data folder of 'cardea dev' (default ./cardea-data)."`
}

// installation is the configuration that flags name: files, or that of 'cardea dev'.
func installation(p *Process, files []string, dir string) (config.Config, error) {
	if len(files) > 0 {
		return configFlag{files}.load(p)
	}
	if dir == "" {
		dir = "./cardea-data"
	}
	return devConfig(devOptions{DataDir: dir, Listen: "127.0.0.1:0", Keys: "127.0.0.1:0", Ops: "127.0.0.1:0", Level: "error"})
}

// errNoKeyService refuses what needs a key service in the configuration.
var errNoKeyService = usageError{errors.New("the configuration has no key service: set key_service.listen, or name another by --config")}

// keyService is a running key service, asked by its admin socket.
type keyService struct {
	socket string
	client *adminapi.Client
	status adminapi.Status
}

// connect asks the key service how it is.
func (f keyServiceFlags) connect(ctx context.Context, p *Process) (*keyService, error) {
	cfg, err := installation(p, f.Config, f.DataDir)
	if err != nil {
		return nil, err
	}
	if !cfg.KeyService.Enabled() {
		return nil, errNoKeyService
	}
	k := &keyService{socket: cfg.KeyService.AdminSocket, client: adminapi.NewClient(cfg.KeyService.AdminSocket)}
	return k, k.call(ctx, "kms/Status", struct{}{}, &k.status)
}

// call has an operation done. Its errors say what to do about them.
func (k *keyService) call(ctx context.Context, operation string, in, out any) error {
	err := k.client.Call(ctx, operation, in, out)
	refused, _ := errors.AsType[*adminapi.Error](err)
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.Is(err, fs.ErrPermission):
		return hinted(fmt.Errorf("%s: %w", k.socket, fs.ErrPermission), "run this as the user that the key service runs as, such as by sudo -u cardea")
	case errors.Is(err, adminapi.ErrNotRunning):
		return fmt.Errorf("no key service answers on %s: start it with 'cardea serve' or 'cardea dev', or say where it is by --config or --data-dir", k.socket)
	case refused == nil:
		return err
	case refused.Code == string(identity.CodeServiceUnavailable) && !k.status.Unsealed:
		return hinted(err, "its custodians unseal it by 'cardea custodian unlock --tenant key-service'")
	case refused.Code == string(identity.CodeServiceFailure):
		return hinted(err, "its log says why")
	}
	return err
}

// account is the one that was named, or the only one there is.
func (k *keyService) account(named string) (string, error) {
	there := k.status.Accounts
	switch {
	case named != "":
		return named, nil
	case len(there) == 0:
		return "", errors.New("the key service has no account yet: make the first, with an administrator, by 'cardea identity bootstrap'")
	case len(there) > 1:
		return "", usageError{fmt.Errorf("--account: there are %s; say which one is meant", strings.Join(there, ", "))}
	}
	return there[0], nil
}

// listAll gets all pages of a list.
func listAll[T any](ctx context.Context, k *keyService, operation string, in identity.Page) ([]T, error) {
	var all []T
	for {
		var page identity.List[T]
		if err := k.call(ctx, operation, &in, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if in.After = page.Next; in.After == "" {
			return all, nil
		}
	}
}

// maxDocument bounds a policy document in bytes. The service has narrower limits.
const maxDocument = 1 << 18

// readDocument reads a policy document from a file, or from standard input ("-").
func readDocument(p *Process, path string) (string, error) {
	in := io.Reader(p.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close() //nolint:errcheck // only read from
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxDocument+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", path, err)
	case len(text) > maxDocument:
		return "", fmt.Errorf("%s: is longer than %d bytes, no policy document", path, maxDocument)
	case strings.TrimSpace(string(text)) == "":
		return "", fmt.Errorf("%s: is empty; a policy document is wanted", path)
	}
	return string(text), nil
}

// parsePairs reads KEY=VALUE arguments, in their order.
func parsePairs(flag string, texts []string) ([][2]string, error) {
	var pairs [][2]string
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usageError{fmt.Errorf("%s: %q is not KEY=VALUE", flag, text)}
		}
		pairs = append(pairs, [2]string{name, value})
	}
	return pairs, nil
}

// table prints rows under a header, or that there are none.
func table(w io.Writer, none string, header []string, rows [][]string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, none)
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(header, "\t"))
	for _, row := range rows {
		fmt.Fprintln(tw, strings.Join(cells(row), "\t"))
	}
	return tw.Flush()
}

// fields prints what is known of one thing, a line each.
func fields(w io.Writer, rows ...[]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(tw, strings.Join(cells(row), "\t"))
	}
	return tw.Flush()
}

// cells are texts of others as a terminal may show them.
func cells(row []string) []string {
	out := make([]string, len(row))
	for i, cell := range row {
		if out[i] = printable(cell); cell == "" {
			out[i] = "-"
		}
	}
	return out
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}
