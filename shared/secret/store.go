package secret

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
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

// Store reads secrets from AWS Secrets Manager.
type Store struct{ client *secretsmanager.Client }

// NewStore returns a Store that reads with client.
func NewStore(client *secretsmanager.Client) *Store { return &Store{client: client} }

// Get returns the version of a secret at a stage. It returns ErrNotFound, or Secrets Manager's error.
func (s *Store) Get(ctx context.Context, name string, stage Stage) (Version, error) {
	out, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId:     aws.String(name),
		VersionStage: aws.String(string(stage)),
	})
	var missing *types.ResourceNotFoundException
	var deleted *types.InvalidRequestException // what AWS answers for a secret that waits for its deletion
	var badName *types.InvalidParameterException
	switch {
	case errors.As(err, &missing), errors.As(err, &deleted), errors.As(err, &badName):
		return Version{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	case err != nil:
		return Version{}, err
	}
	return Version{
		ID:      aws.ToString(out.VersionId),
		Value:   NewText(aws.ToString(out.SecretString)),
		Created: aws.ToTime(out.CreatedDate),
	}, nil
}
