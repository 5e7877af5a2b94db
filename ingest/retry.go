package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// newBackoff is endless, with jitter: 20 ms, doubling, at most 2 s. It is not safe for concurrent use.
func newBackoff(ctx context.Context) backoff.BackOffContext {
	return backoff.WithContext(backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxInterval(2*time.Second),
		backoff.WithMaxElapsedTime(0),
	), ctx)
}

// retry calls f until it succeeds, returns one of the final errors, or ctx is done.
func retry(ctx context.Context, f func() error, final ...error) error {
	return backoff.Retry(func() error {
		err := f()
		for _, e := range final {
			if errors.Is(err, e) {
				return backoff.Permanent(err)
			}
		}
		return err
	}, newBackoff(ctx))
}

// pause waits for d or until ctx is done, and tells whether it was d.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
