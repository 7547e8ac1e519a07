package secret

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound says that there is no such secret, no such version of it, or that it was deleted.
var ErrNotFound = errors.New("secret: not found")

// Stage names a version of a secret, as Secrets Manager's staging labels do.
type Stage string

// The stages that rotation moves.
const (
	Current  Stage = "AWSCURRENT"
	Previous Stage = "AWSPREVIOUS"
)

// Version is one version of a secret.
type Version struct {
	ID      string // Secrets Manager's VersionId
	Value   Text
	Created time.Time
}

// Store reads one version of a secret; secretstore.Store does. It returns ErrNotFound when there is none.
type Store interface {
	Get(ctx context.Context, name string, stage Stage) (Version, error)
}

// Reader reads a version of a secret that is at most maxAge old; Cache does. It returns ErrNotFound when there is none.
type Reader interface {
	Get(ctx context.Context, name string, stage Stage, maxAge time.Duration) (Version, error)
}
