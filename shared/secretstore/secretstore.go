// Package secretstore reads secrets from AWS Secrets Manager. It is apart from package secret so that types can hold
// secrets without linking its client.
package secretstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"carillon/shared/secret"
)

// Store reads secrets. It is a secret.Store.
type Store struct{ client *secretsmanager.Client }

// New returns a Store that reads with client.
func New(client *secretsmanager.Client) *Store { return &Store{client: client} }

// Open returns a Store with a client of its own.
func Open(config aws.Config) *Store { return New(secretsmanager.NewFromConfig(config)) }

// Get returns the version of a secret at a stage. It returns secret.ErrNotFound, or Secrets Manager's error.
func (s *Store) Get(ctx context.Context, name string, stage secret.Stage) (secret.Version, error) {
	out, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId:     aws.String(name),
		VersionStage: aws.String(string(stage)),
	})
	switch {
	case isMissing(err):
		return secret.Version{}, fmt.Errorf("%w: %w", secret.ErrNotFound, err)
	case err != nil:
		return secret.Version{}, err
	}
	return secret.Version{
		ID:      aws.ToString(out.VersionId),
		Value:   secret.NewText(aws.ToString(out.SecretString)),
		Created: aws.ToTime(out.CreatedDate),
	}, nil
}

func isMissing(err error) bool {
	_, missing := errors.AsType[*types.ResourceNotFoundException](err)
	// What AWS answers for a secret that waits for its deletion.
	_, deleted := errors.AsType[*types.InvalidRequestException](err)
	_, badName := errors.AsType[*types.InvalidParameterException](err)
	return missing || deleted || badName
}
