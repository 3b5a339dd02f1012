package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"cardea/internal/audit"
	"cardea/internal/retention"
)

// bucketAccess is how an archive in S3 is reached, if one is named.
type bucketAccess struct {
	ArchiveRegion      string `placeholder:"NAME" help:"Region of the archive's bucket; that of AWS's configuration if not given."`
	ArchiveEndpointURL string `name:"archive-endpoint-url" placeholder:"URL" help:"Address of the server with the archive's bucket; AWS's if not given."`
	ArchiveProfile     string `placeholder:"NAME" help:"Profile of AWS's configuration for the archive's bucket; the default one if not given."`
	ArchiveCAFile      string `name:"archive-ca-file" type:"path" placeholder:"FILE" help:"Authorities of that server, in PEM; the system's if not given."`
}

// place finds what the address of an archive names: s3://BUCKET/PREFIX or a folder.
// more adds to the options of a bucket.
func (b bucketAccess) place(ctx context.Context, flag, address string, more func(*retention.BucketOptions)) (retention.Place, error) {
	bucket, prefix, ok := retention.ParseBucket(address)
	if !ok {
		dir, err := filepath.Abs(address)
		return retention.Folder(dir), err
	}
	if bucket == "" {
		return nil, usageError{fmt.Errorf("%s: %q names no bucket, expected s3://BUCKET/PREFIX", flag, address)}
	}
	o := retention.BucketOptions{Bucket: bucket, Prefix: prefix, Region: b.ArchiveRegion, Endpoint: b.ArchiveEndpointURL, Profile: b.ArchiveProfile, CAFile: b.ArchiveCAFile}
	if more != nil {
		more(&o)
	}
	p, err := retention.Bucket(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return p, nil
}

// openArchive unpacks the archive into a temporary folder, to be read like a log.
func (s logSource) openArchive(ctx context.Context) (*retention.Restored, error) {
	place, err := s.place(ctx, "--archive", s.Archive, nil)
	if err != nil {
		return nil, err
	}
	a, err := retention.OpenArchive(ctx, place)
	if err != nil {
		return nil, fmt.Errorf("--archive %s: %w", s.Archive, err)
	}
	if len(a.Periods()) == 0 {
		return nil, fmt.Errorf("--archive %s: no archive there: name the place that 'cardea audit archive' wrote", s.Archive)
	}
	r, err := a.Restore(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("--archive: %w", err)
	}
	return r, nil
}

// join has the entries that were pruned from the database read from the archive.
func (o *opened) join(archive *retention.Restored) {
	closeStored := o.close
	o.stored, o.archive = o.Source, archive
	o.Source = retention.Joined{Source: o.stored, Archive: archive}
	o.close = func() error { return errors.Join(archive.Close(), closeStored()) }
}

// tellAbsent tells which entries of logs cannot be read because they were archived
// and pruned, if some of them may be of the time from since on. missing reports
// whether entries are missing of which nothing says that they were.
func tellAbsent(ctx context.Context, w io.Writer, src audit.Source, origins []string, since time.Time) (missing bool, err error) {
	for _, origin := range origins {
		a, err := audit.AbsentOf(ctx, src, origin)
		switch p := a.Pruning; {
		case err != nil:
			return missing, err
		case a.Before == 0:
		case p == nil:
			fmt.Fprintf(w, "%s: entries before %d are missing, and no record says that they were archived: see 'cardea audit verify'\n", printable(origin), a.Before)
			missing = true
		case since.IsZero() || !p.Last.Before(since.Add(-retention.ClockSlack)):
			fmt.Fprintf(w, "%s: entries before %d, until %s, were archived on %s: read them with --archive PLACE\n",
				printable(origin), a.Before, p.Last.Format(time.RFC3339), p.Time.Format(time.DateOnly))
		}
	}
	return missing, nil
}

// tellUnwatched tells what will not be watched of logs, because it is not there.
func tellUnwatched(ctx context.Context, p *Process, s logSource, src *opened) error {
	origins, err := s.origins(ctx, src)
	if err != nil {
		return err
	}
	_, err = tellAbsent(ctx, p.Stderr, src, origins, time.Time{})
	return err
}

// isBucket reports whether an address is of a bucket.
func isBucket(address string) bool { return strings.HasPrefix(address, "s3://") }
