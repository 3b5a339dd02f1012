package vault

import "context"

// LockerFingerprint is what the peer keeps of data under a key.
var LockerFingerprint = lockerFingerprint

// Follow, TakeUp, Schedule and Flush are what Run does by the clock. TakeUp returns
// when the jobs that it took up have stopped.
func (a *KeyAdmin) Follow(ctx context.Context)   { a.follow(ctx) }
func (a *KeyAdmin) Schedule(ctx context.Context) { a.schedule(ctx) }
func (a *KeyAdmin) Flush(ctx context.Context)    { a.flush(ctx) }
func (a *KeyAdmin) TakeUp(ctx context.Context) {
	a.takeUp(ctx)
	a.jobs.Wait()
}
