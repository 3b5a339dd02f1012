package fileenc

import (
	"context"
	"sync"

	"cardea/internal/secret"
)

const (
	// blockSize is about how much is read, worked on and written at once: enough that
	// system calls do not count, and little enough to stay in a core's cache.
	blockSize = 256 << 10
	// blockBudget bounds the blocks together when frames are large.
	blockBudget = 16 << 20
	minBlocks   = 3 // one being read, one worked on, one written
)

// block is a number of frames on their way.
type block struct {
	buf    []byte
	seq    uint32 // of the first frame
	frames int
	last   int // length of the last frame's content
	final  bool
	out    []byte // what is to be written, in buf
	plain  int64  // bytes of plaintext in it

	err  error
	done chan struct{}
}

// feed is how the reading side gets free blocks and hands them on.
type feed struct {
	ctx         context.Context
	size        int // of a block
	free        chan *block
	jobs, order chan *block
	all         []*block // of the reading goroutine until it ends
}

// next is a free block. A small message needs few, so they are made when there is
// none.
func (f *feed) next() (*block, error) {
	if len(f.free) == 0 && len(f.all) < cap(f.free) {
		b := &block{buf: make([]byte, f.size), done: make(chan struct{}, 1)}
		f.all = append(f.all, b)
		return b, nil
	}
	select {
	case b := <-f.free:
		*b = block{buf: b.buf, done: b.done}
		return b, nil
	case <-f.ctx.Done():
		return nil, f.ctx.Err()
	}
}

// emit cannot block: the channels have room for all blocks.
func (f *feed) emit(b *block) {
	f.order <- b
	f.jobs <- b
}

// pipeline reads blocks in one goroutine, works on them in several, and writes them,
// in order, in the caller's. It ends when ctx does or one of them has an error, and
// then does not wait for a read that is under way: it may be of a pipe that says
// nothing more. Blocks are wiped at the end.
type pipeline struct {
	size, workers int // of a block
	read          func(*feed) error
	work          func() func(*block) error // makes a worker's function
	write         func(*block) error
}

func (p pipeline) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	count := max(minBlocks, min(2*p.workers+2, blockBudget/p.size))
	f := &feed{ctx: ctx, size: p.size, free: make(chan *block, count), jobs: make(chan *block, count), order: make(chan *block, count)}
	wipe := func() {
		for _, b := range f.all {
			secret.Wipe(b.buf)
		}
	}

	var readErr error
	read := make(chan struct{})
	go func() {
		defer close(read)
		readErr = p.read(f)
		close(f.order)
	}()
	var workers sync.WaitGroup
	for range p.workers {
		work := p.work()
		workers.Go(func() {
			for {
				select {
				case b := <-f.jobs:
					b.err = work(b)
					b.done <- struct{}{}
				case <-ctx.Done():
					return
				}
			}
		})
	}
	defer func() {
		cancel()
		workers.Wait()
		select {
		case <-read:
			wipe()
		default:
			go func() {
				<-read
				wipe()
			}()
		}
	}()
	for {
		b, err := p.oldest(ctx, f.order)
		if err != nil {
			return err
		}
		if b == nil {
			<-read
			return readErr
		}
		if err := p.write(b); err != nil {
			return err
		}
		f.free <- b
	}
}

// oldest is the next block when it is worked on, or nil after the last.
func (p pipeline) oldest(ctx context.Context, order chan *block) (*block, error) {
	select {
	case b, ok := <-order:
		if !ok {
			return nil, nil //nolint:nilnil // documented
		}
		select {
		case <-b.done:
			return b, b.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
