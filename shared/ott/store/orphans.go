package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	secretstypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"carillon/shared/dynamo"
	"carillon/shared/ott"
)

// Orphan is a secret with credentials that no registration names: what a crash between secret and item leaves behind.
type Orphan struct {
	SecretName string    `json:"secret"`
	Property   string    `json:"property"` // platform#id, as whoever wrote the secret meant it
	CreatedAt  time.Time `json:"createdAt"`
}

// Survey is what Orphans found.
type Survey struct {
	Orphans []Orphan // oldest first
	InUse   int      // secrets that registrations name
	Young   int      // secrets that none names yet, created too late to be judged
}

// Orphans looks for secrets that no registration names and that were created before a time. It must be so long ago that
// no registering is still under way that wrote its secret by then and its item not yet: a minute is ample. Orphans
// reads the whole table, and says to progress from time to time how many secrets and items it has read. It returns
// AWS's error.
func (s *Registrations) Orphans(ctx context.Context, before time.Time, progress func(read int)) (Survey, error) {
	// The secrets first: what is listed here and named by an item written later is too young to be an orphan.
	secrets, err := s.listSecrets(ctx, progress)
	if err != nil {
		return Survey{}, err
	}
	inUse, err := s.secretsInUse(ctx, func(items int) { progress(len(secrets) + items) })
	if err != nil {
		return Survey{}, err
	}
	var survey Survey
	for _, orphan := range secrets {
		switch {
		case inUse[orphan.SecretName]:
			survey.InUse++
		case !orphan.CreatedAt.Before(before):
			survey.Young++
		default:
			survey.Orphans = append(survey.Orphans, orphan)
		}
	}
	slices.SortFunc(survey.Orphans, func(a, b Orphan) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return survey, nil
}

// DeleteOrphan deletes a secret that Orphans found. Secrets Manager can restore it for recoveryDays. It returns AWS's
// error.
func (s *Registrations) DeleteOrphan(ctx context.Context, orphan Orphan) error {
	return s.deleteSecret(ctx, orphan.SecretName)
}

// listSecrets returns all secrets of registrations, as if each were an orphan.
func (s *Registrations) listSecrets(ctx context.Context, progress func(int)) ([]Orphan, error) {
	pages := secretsmanager.NewListSecretsPaginator(s.secrets, &secretsmanager.ListSecretsInput{
		MaxResults: aws.Int32(100),
		Filters:    []secretstypes.Filter{{Key: secretstypes.FilterNameStringTypeName, Values: []string{s.prefix}}},
	})
	var secrets []Orphan
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, entry := range page.SecretList {
			if entry.DeletedDate != nil || !s.isSecretName(aws.ToString(entry.Name)) {
				continue
			}
			secrets = append(secrets, Orphan{
				SecretName: aws.ToString(entry.Name),
				Property:   strings.TrimPrefix(aws.ToString(entry.Description), descriptionPrefix),
				CreatedAt:  aws.ToTime(entry.CreatedDate).UTC(),
			})
		}
		progress(len(secrets))
	}
	return secrets, nil
}

// isSecretName reports whether Put gives such names. AWS's filter is AWS's to interpret, and what another has put under
// the prefix is not ours to delete.
func (s *Registrations) isSecretName(name string) bool {
	rest, ok := strings.CutPrefix(name, s.prefix)
	platform, version, _ := strings.Cut(rest, "/")
	return ok && version != "" && (ott.Platform(platform) == ott.Messenger || ott.Platform(platform) == ott.LINE)
}

func (s *Registrations) secretsInUse(ctx context.Context, progress func(int)) (map[string]bool, error) {
	names := map[string]bool{}
	pages := dynamodb.NewScanPaginator(s.items, &dynamodb.ScanInput{
		TableName:            aws.String(s.table),
		ConsistentRead:       aws.Bool(true),
		ProjectionExpression: aws.String("secretName"),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			names[dynamo.GetString(item, "secretName")] = true
		}
		progress(len(names))
	}
	return names, nil
}
