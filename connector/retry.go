package connector

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// retry calls try until it returns nil or a permanent error, or ctx is done. The pauses begin with
// first, double, have jitter, and are at most limit; there is no other end.
func retry(ctx context.Context, first, limit time.Duration, try func() error) error {
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(first), backoff.WithMaxInterval(limit), backoff.WithMaxElapsedTime(0))
	return backoff.Retry(try, backoff.WithContext(b, ctx))
}
