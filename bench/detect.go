package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"cardea/internal/cloudtrail"
	"cardea/internal/detect"
	"cardea/internal/detect/traffic"
)

// measureDetect reads a trail's files, parses and judges their records, and beside
// it unpacks and decodes them only: with encoding/json and with its second version,
// into the members that a record of the key service has, and into maps. Then it
// tells what the detector's memory is after a million records and after ten, of as
// many principals and keys.
func measureDetect(o options, r *report, dir string) error {
	rate := 1500.0
	if o.quick {
		rate = 100
	}
	w := world(rate, 3)
	trail := filepath.Join(dir, "trail")
	records, err := w.WriteTrail(trail)
	if err != nil {
		return err
	}
	files, err := readTrail(trail)
	if err != nil {
		return err
	}
	rules, err := detect.ParseRules(w.Rules())
	if err != nil {
		return err
	}
	ways := []struct {
		what string
		do   func() error
		took time.Duration
		cpu  time.Duration
		n    int
	}{
		{what: "parse and detect", do: func() error { return detectFiles(files, rules, records) }},
		{what: "gunzip and encoding/json into structs", do: func() error {
			return decodeFiles(files, func(z io.Reader) error { return json.NewDecoder(z).Decode(&structs{}) })
		}},
		{what: "gunzip and encoding/json into maps", do: func() error {
			return decodeFiles(files, func(z io.Reader) error { return json.NewDecoder(z).Decode(&maps{}) })
		}},
		{what: "gunzip and json/v2 into structs", do: func() error {
			return decodeFiles(files, func(z io.Reader) error { return jsonv2.UnmarshalRead(z, &structs{}) })
		}},
		{what: "gunzip alone", do: func() error {
			return decodeFiles(files, func(z io.Reader) error { _, err := io.Copy(io.Discard, z); return err })
		}},
	}
	// In turns, so that an hour in which the machine is busy is one for all.
	for left := o.window(); left > 0; {
		begun := time.Now()
		for i := range ways {
			x := &ways[i]
			at, used := time.Now(), cpuTime()
			if err := x.do(); err != nil {
				return fmt.Errorf("%s: %w", x.what, err)
			}
			x.took, x.cpu, x.n = x.took+time.Since(at), x.cpu+cpuTime()-used, x.n+records
		}
		left -= time.Since(begun) / time.Duration(len(ways))
	}
	// Each way uses one core. Of a machine that is shared, how much it computed tells
	// more than how long that took.
	of := func(i int) float64 { return float64(ways[i].n) / ways[i].cpu.Seconds() }
	for i := 1; i < len(ways); i++ {
		r.add(row{
			what: "trail: parse and detect, of a core", rate: of(0), bound: of(i), cpu: ways[0].cpu / time.Duration(ways[0].n),
			note: fmt.Sprintf("bound: %s; by the clock %.0f and %.0f", ways[i].what, float64(ways[0].n)/ways[0].took.Seconds(), float64(ways[i].n)/ways[i].took.Seconds()),
		})
	}
	return measureDetectorMemory(o, r)
}

type structs struct{ Records []cloudtrail.Record }

type maps struct{ Records []map[string]any }

func world(rate float64, days int) *traffic.World {
	p := traffic.Random(7)
	p.Days, p.Attacks, p.Rate = days, false, rate
	return traffic.New(p)
}

func readTrail(dir string) (files [][]byte, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "AWSLogs", "*", "CloudTrail", "*", "*", "*", "*", "*.gz"))
	if err == nil && len(paths) == 0 {
		err = errors.New("the trail has no files")
	}
	for _, path := range paths { // in the order of their names, which is that of time
		b, rerr := os.ReadFile(path)
		files, err = append(files, b), errors.Join(err, rerr)
	}
	return files, err
}

func detectFiles(files [][]byte, rules *detect.Rules, records int) error {
	d, err := detect.New(detect.Options{Rules: rules})
	if err != nil {
		return err
	}
	r := cloudtrail.NewReader(bytes.NewReader(nil), cloudtrail.Options{})
	var e cloudtrail.Event
	for _, f := range files {
		r.Reset(bytes.NewReader(f))
		for {
			if err := r.Read(&e); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
			d.Observe(&e)
		}
	}
	if s := d.Stats(); s.Events != uint64(records) || s.Late != 0 {
		return fmt.Errorf("%+v of %d records", s, records)
	}
	return nil
}

func decodeFiles(files [][]byte, decode func(io.Reader) error) error {
	for _, f := range files {
		z, err := gzip.NewReader(bytes.NewReader(f))
		if err != nil {
			return err
		}
		if err := decode(z); err != nil {
			return err
		}
	}
	return nil
}

// measureDetectorMemory has a detector judge a week of the same principals and keys,
// of a million and of ten million records.
func measureDetectorMemory(o options, r *report) error {
	for _, millions := range []float64{1, 10} {
		if o.quick {
			millions /= 50
		}
		w := world(1680*millions, 7) // about a million records a week
		rules, err := detect.ParseRules(w.Rules())
		if err != nil {
			return err
		}
		d, err := detect.New(detect.Options{Rules: rules})
		if err != nil {
			return err
		}
		before := heap()
		n, begun := 0, time.Now()
		w.Each(func(e *cloudtrail.Event, _ int) bool {
			d.Observe(e)
			n++
			return true
		})
		took := time.Since(begun)
		after := heap()
		var state bytes.Buffer
		if err := d.Snapshot(&state); err != nil {
			return err
		}
		r.add(row{
			what: fmt.Sprintf("detector after %.1f million records", float64(n)/1e6), rate: float64(n) / took.Seconds(),
			note: fmt.Sprintf("%.1f MiB of memory, %.2f MiB on disk, %d principals; made and judged", float64(after-before)/mib, float64(state.Len())/mib, w.Principals()),
		})
	}
	return nil
}
