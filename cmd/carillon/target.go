package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"carillon/provision"
	"carillon/shared/stackname"
)

// Target says which bundle is meant: a stack on AWS, or the one that runs on this machine.
type Target struct {
	Stack   string `env:"CARILLON_STACK" default:"carillon" placeholder:"NAME" help:"CloudFormation stack of the bundle (${default}; $$${env})."`
	Region  string `placeholder:"REGION" help:"AWS region, else the one that the environment or the profile names."`
	Profile string `placeholder:"NAME" xor:"where" help:"Profile of the AWS configuration files."`
	Local   bool   `name:"local" xor:"where" help:"The bundle that 'make run' runs, found by its .local/demo.json; its stack and region."`
}

// bundle is a target that has been found: AWS clients, and the stack that every name begins with.
type bundle struct {
	clients *provision.Clients
	secrets *secretsmanager.Client
	ddb     *dynamodb.Client
	sqs     *sqs.Client
	stack   string
	// url is the API's base URL, empty unless it is the local run's.
	url string
	// where says where the bundle is, for a message.
	where string
}

// open finds the target. It makes no call yet.
func (t *Target) open(ctx context.Context) (bundle, error) {
	if t.Local {
		return openLocal()
	}
	if err := stackname.Check(t.Stack); err != nil {
		return bundle{}, err
	}
	var options []func(*config.LoadOptions) error
	if t.Region != "" {
		options = append(options, config.WithRegion(t.Region))
	}
	if t.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(t.Profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return bundle{}, fmt.Errorf("cannot read the AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return bundle{}, errors.New(
			"no AWS region: name it with --region or AWS_REGION (or --local for the bundle that `make run` runs)",
		)
	}
	sm := secretsmanager.NewFromConfig(cfg)
	return bundle{
		clients: provision.NewClients(sm, t.Stack),
		secrets: sm,
		ddb:     dynamodb.NewFromConfig(cfg),
		sqs:     sqs.NewFromConfig(cfg),
		stack:   t.Stack,
		where:   fmt.Sprintf("stack %s in %s", t.Stack, cfg.Region),
	}, nil
}

// demo is what the local run writes of itself, as far as provisioning needs it.
type demo struct {
	BaseURL string `json:"baseUrl"`
	AWS     struct {
		DynamoDB string `json:"dynamodb"`
		Endpoint string `json:"endpoint"`
		Region   string `json:"region"`
		Stack    string `json:"stack"`
	} `json:"aws"`
}

func openLocal() (bundle, error) {
	file, err := findDemo()
	if err != nil {
		return bundle{}, err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return bundle{}, err
	}
	var d demo
	if err := json.Unmarshal(raw, &d); err != nil || d.AWS.Endpoint == "" || d.AWS.DynamoDB == "" || d.AWS.Stack == "" {
		return bundle{}, fmt.Errorf("%s does not say where the local run's emulators are: start `make run` again", file)
	}
	cfg := aws.Config{
		Region:      d.AWS.Region,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""), // the emulators take any
	}
	sm := secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) { o.BaseEndpoint = &d.AWS.Endpoint })
	return bundle{
		clients: provision.NewClients(sm, d.AWS.Stack),
		secrets: sm,
		ddb:     dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) { o.BaseEndpoint = &d.AWS.DynamoDB }),
		sqs:     sqs.NewFromConfig(cfg, func(o *sqs.Options) { o.BaseEndpoint = &d.AWS.Endpoint }),
		stack:   d.AWS.Stack,
		url:     d.BaseURL,
		where:   "the local run",
	}, nil
}

// findDemo looks for the local run's file here and in the directories above, as git does for its own.
func findDemo() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		file := filepath.Join(dir, ".local", "demo.json")
		_, err := os.Stat(file)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New(
				"no local run: there is no .local/demo.json here or above. Start `make run` in another terminal, and call this within the project",
			)
		}
		dir = parent
	}
}
