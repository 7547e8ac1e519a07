// Package local runs the whole bundle on this machine: the real Lambda binaries behind the Runtime API and an HTTP API
// like API Gateway's, emulators for AWS, stand-ins for the partners. It is what `carillon local` runs and what tests
// start in their own process.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"carillon/local/apigateway"
	"carillon/local/emulator"
	"carillon/local/lambda"
	"carillon/local/stack"
	"carillon/local/standin"
	"carillon/local/template"
	"carillon/provision"
	"carillon/shared/stackname"
)

// What the bundle is called here.
const (
	defaultStack = "carillon-local"
	region       = "us-east-1"
	accountID    = emulator.AccountID
	apiID        = "local"
)

const (
	// lockRetry is how often a run that waits for another one's build looks again.
	lockRetry = 100 * time.Millisecond
	// drainTime is how long requests in flight may take once the run is asked to stop.
	drainTime = 2 * time.Second
)

// Options say what to run. The zero value but for Root is what a test wants: a free port, everything quiet.
type Options struct {
	// Root is the project's folder, with template.yaml and Makefile.
	Root string
	// Template is the template's path, template.yaml in Root by default.
	Template string
	// ToolsDir and BuildDir are .local and .local/build in Root by default. Runs side by side may share them.
	ToolsDir, BuildDir string
	// Port is the HTTP API's on 127.0.0.1, 0 for a free one.
	Port int
	// Stack is the stack's name, carillon-local by default.
	Stack string
	// GatewayURL and ProviderURL replace the stand-ins: https, or http to this machine.
	GatewayURL, ProviderURL string
	// Parameters override the template's.
	Parameters map[string]string
	// Environment overlays variables of every function: AWS_ENDPOINT_URL_DYNAMODB of a proxy, for instance.
	Environment map[string]string
	// MaxProcesses bounds the processes of each function, and the invocations of its queues with them. By default there
	// are 16, and as many more as the template wants for a function's queues, up to 128. Queues of one function that
	// want more together get less, each in proportion.
	MaxProcesses int
	// Duplicates has the queues deliver every nth message once more after it was handled, as SQS may; 0 for none.
	Duplicates int
	// ManualSchedules runs schedules only by TriggerSchedules, until ResumeSchedules.
	ManualSchedules bool
	// DemoFile is written once the bundle serves and removed when it closes, none if empty.
	DemoFile string
	// Progress takes what the start does, Log what happens while it serves, a line at a time and from several
	// goroutines; nil drops it.
	Progress, Log func(line string)
}

// Bundle is a running bundle.
type Bundle struct {
	// BaseURL is the HTTP API's, without a trailing slash.
	BaseURL string
	// Demo is the content of demo.json: clients, content, endpoints.
	Demo Demo
	// Partners are the stand-ins. Gateway is the device gateway among them, Mail has the mails that SES accepted,
	// Events what was put on the event buses, and OTT is Messenger and LINE.
	Partners *standin.Server
	Gateway  *standin.Gateway
	Mail     *standin.Mail
	Events   *standin.Events
	OTT      *standin.OTT
	// ProviderUsername and ProviderPassword are what the bundle shows the entitlement provider.
	ProviderUsername, ProviderPassword string

	options   Options
	dir       string // of this run alone
	dirLock   *flock.Flock
	listener  net.Listener
	server    *http.Server
	emulators *emulator.Set
	functions map[string]*lambda.Function
	declared  []template.Function // the template's order
	// background starts last and ends first.
	background background
	failed     chan error
	closed     chan struct{}
	closing    sync.Once
}

// Start installs what is missing, builds, provisions and serves. It returns when the bundle serves, or with the reason
// why it cannot and nothing left behind.
func Start(ctx context.Context, options Options) (*Bundle, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Bundle{
		options:   options,
		functions: map[string]*lambda.Function{},
		failed:    make(chan error, 1),
		closed:    make(chan struct{}),
	}
	if err := b.start(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (o Options) withDefaults() (Options, error) {
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return Options{}, err
	}
	o.Root = root
	for path, otherwise := range map[*string]string{
		&o.Template: "template.yaml",
		&o.ToolsDir: ".local",
		&o.BuildDir: filepath.Join(".local", "build"),
	} {
		if *path == "" {
			*path = filepath.Join(root, otherwise)
		}
	}
	if o.Stack == "" {
		o.Stack = defaultStack
	}
	for _, log := range []*func(string){&o.Progress, &o.Log} {
		if *log == nil {
			*log = func(string) {}
		}
	}
	return o, stackname.Check(o.Stack)
}

func (b *Bundle) start(ctx context.Context) error {
	// First of all the port: whoever has it will still have it when everything is installed.
	if err := b.listen(); err != nil {
		return err
	}
	content, err := content()
	if err != nil {
		return err
	}
	if err := b.standIn(productKeys(content)); err != nil {
		return err
	}
	t, err := template.Load(b.options.Template, template.Options{
		StackName: b.options.Stack, Region: region, AccountID: accountID,
		Parameters: b.options.Parameters,
		Offered: map[string]string{
			"Architecture":    architecture(),
			"ProviderUrl":     b.providerURL(),
			"GatewayUrl":      b.gatewayURL(),
			"MailFrom":        "activation@" + mailIdentity,
			"MailIdentity":    mailIdentity,
			"ActivationHosts": b.activationHosts(),
		},
	})
	if err != nil {
		return err
	}
	ids, err := t.FunctionIDs()
	if err != nil {
		return err
	}
	build := builder{root: b.options.Root, dir: b.options.BuildDir}
	if err := errors.Join(build.prerequisites(), emulator.Prerequisites(b.options.ToolsDir)); err != nil {
		return err
	}
	if b.dir, b.dirLock, err = runDir(b.options.BuildDir); err != nil {
		return err
	}
	build.into = b.dir

	// The functions build while the emulators install, start and fill.
	var bootstraps map[string]string
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		b.progressf("building %d functions", len(ids))
		bootstraps, err = build.build(gctx, ids)
		if err == nil {
			b.progressf("built %d functions", len(ids))
		}
		return err
	})
	group.Go(func() error {
		if err := b.emulate(gctx); err != nil {
			return err
		}
		return b.provision(gctx, t, content)
	})
	if err := group.Wait(); err != nil {
		return b.reason(err)
	}
	return b.serve(t, bootstraps)
}

// architecture is this machine's, as Lambda calls it.
func architecture() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}

// reason prefers the death of an emulator to the refused connections that follow from it.
func (b *Bundle) reason(err error) error {
	if b.emulators == nil {
		return err
	}
	select {
	case died := <-b.emulators.Died():
		return died
	default:
		return err
	}
}

func (b *Bundle) listen() (err error) {
	b.listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(b.options.Port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf(
			"port %d is in use: end what listens there, or choose another one with PORT=%d",
			b.options.Port,
			b.options.Port+1,
		)
	}
	if err != nil {
		return fmt.Errorf("listening on port %d: %w", b.options.Port, err)
	}
	b.BaseURL = "http://" + b.listener.Addr().String()
	return nil
}

func (b *Bundle) emulate(ctx context.Context) error {
	tools, err := emulator.Install(ctx, b.options.ToolsDir, b.options.Progress)
	if err != nil {
		return err
	}
	b.progressf("starting the emulators")
	b.emulators, err = emulator.Start(ctx, tools)
	return err
}

// provision creates what the template declares, the demo clients and the demo content.
func (b *Bundle) provision(ctx context.Context, t *template.Template, content provision.Content) error {
	credentials, err := json.Marshal(map[string]string{"username": b.ProviderUsername, "password": b.ProviderPassword})
	if err != nil {
		return err
	}
	ddb, sm := b.DynamoDB(), b.SecretsManager()
	b.progressf("creating tables, queues, secrets, rules, clients and content")
	clients := stack.Clients{
		DynamoDB:       ddb,
		SecretsManager: sm,
		SQS:            b.SQS(),
		EventBridge:    b.EventBridge(),
		SESv2:          b.SESv2(),
	}
	err = stack.Create(ctx, t, clients, map[string]string{
		stackname.ProviderSecret(b.options.Stack): string(credentials),
		stackname.GatewaySecret(b.options.Stack):  b.Demo.Gateway.Secret,
	})
	if err != nil {
		return err
	}
	if err := b.connect(ctx, t, clients); err != nil {
		return err
	}
	if _, err := provision.ApplyContent(ctx, ddb, stackname.ContentTable(b.options.Stack), content); err != nil {
		return fmt.Errorf("writing the demo content: %w", err)
	}
	demo, err := addClients(ctx, provision.NewClients(sm, b.options.Stack), content)
	if err != nil {
		return err
	}
	demo.BaseURL = b.BaseURL
	demo.Gateway = DemoGateway{URL: b.gatewayURL(), Secret: b.Demo.Gateway.Secret}
	demo.AWS = DemoEmulators{
		DynamoDB: b.emulators.DynamoDB,
		Endpoint: b.emulators.AWS,
		Region:   region,
		Stack:    b.options.Stack,
	}
	b.Demo = demo
	return nil
}

// serve makes the functions and the API, and starts to answer.
func (b *Bundle) serve(t *template.Template, bootstraps map[string]string) error {
	functions, err := t.Functions()
	if err != nil {
		return err
	}
	b.declared = functions
	var routes []apigateway.Route
	for _, f := range functions {
		environment := map[string]string{
			"AWS_ENDPOINT_URL":             b.emulators.AWS,
			"AWS_ENDPOINT_URL_DYNAMODB":    b.emulators.DynamoDB,
			"AWS_ENDPOINT_URL_SESV2":       b.Partners.URL("mail"),
			"AWS_ENDPOINT_URL_EVENTBRIDGE": b.Partners.URL("events"),
			"PLATFORM_STANDIN_URL":         b.Partners.URL(b.OTT.Name()),
		}
		maps.Copy(environment, f.Environment)
		maps.Copy(environment, b.options.Environment)
		_, processes := b.concurrency(f)
		function := lambda.New(lambda.Config{
			Name: f.Name, Label: label(f.LogicalID), Bootstrap: bootstraps[f.LogicalID],
			Timeout: f.Timeout, MemoryMB: f.MemoryMB, LogFormat: f.LogFormat, LogLevel: f.LogLevel,
			Region: region, AccountID: accountID,
			Environment: environment, MaxProcesses: processes, Log: b.options.Log,
		})
		b.functions[f.LogicalID] = function
		for _, route := range f.Routes {
			routes = append(routes, apigateway.Route{
				Method: route.Method, Path: route.Path, Timeout: route.Timeout, Function: function,
			})
		}
	}
	api, err := apigateway.New(routes, apigateway.Options{AccountID: accountID, APIID: apiID, Log: b.options.Log})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/_local/", b.Partners.Control())
	// The API sees every other path as it was sent: a mux would clean it and redirect.
	b.server = &http.Server{
		Handler:           front{local: mux, api: api},
		ReadHeaderTimeout: 30 * time.Second,
	}
	go func() {
		if err := b.server.Serve(b.listener); !errors.Is(err, http.ErrServerClosed) {
			b.fail(fmt.Errorf("the HTTP API ended: %w", err))
		}
	}()
	go func() {
		select {
		case err := <-b.emulators.Died():
			b.fail(err)
		case <-b.closed:
		}
	}()
	if err := b.feed(t, functions); err != nil {
		return err
	}
	if b.options.DemoFile == "" {
		return nil
	}
	return b.Demo.write(b.options.DemoFile)
}

// front sends /_local/ to the stand-ins' pages and everything else to the API.
type front struct{ local, api http.Handler }

func (f front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if path := r.URL.Path; path == "/_local" || len(path) > len("/_local") && path[:len("/_local/")] == "/_local/" {
		f.local.ServeHTTP(w, r)
		return
	}
	f.api.ServeHTTP(w, r)
}

func (b *Bundle) fail(err error) {
	select {
	case b.failed <- err:
	default: // the first reason is the one to tell
	}
}

// Failed delivers the reason when the bundle cannot go on: an emulator has ended.
func (b *Bundle) Failed() <-chan error { return b.failed }

// Close stops serving, lets requests in flight end, and returns when no process is left. It may be called twice.
func (b *Bundle) Close() {
	b.closing.Do(func() {
		close(b.closed)
		if b.options.DemoFile != "" && b.Demo.BaseURL != "" {
			b.Demo.remove(b.options.DemoFile)
		}
		b.background.close()
		if b.server != nil {
			ctx, cancel := context.WithTimeout(context.Background(), drainTime)
			defer cancel()
			if b.server.Shutdown(ctx) != nil {
				_ = b.server.Close()
			}
		} else if b.listener != nil {
			_ = b.listener.Close()
		}
		for _, function := range b.functions {
			function.Close()
		}
		if b.Partners != nil {
			b.Partners.Close()
			b.Mail.Close()
		}
		if b.emulators != nil {
			b.emulators.Close()
		}
		if b.dir != "" {
			_ = os.RemoveAll(b.dir)
			_ = b.dirLock.Unlock()
		}
	})
}

// Function returns the function with this logical id: to kill it, to change its environment, to invoke it with a raw
// payload, to ask for its cold starts. It panics when the template has none of that name.
func (b *Bundle) Function(logicalID string) *lambda.Function {
	f, ok := b.functions[logicalID]
	if !ok {
		panic("local: the template declares no function " + logicalID)
	}
	return f
}

// Functions returns every function by its logical id.
func (b *Bundle) Functions() map[string]*lambda.Function { return maps.Clone(b.functions) }

// EmulatorPIDs are the emulators' process numbers by name: dynoxide, moto.
func (b *Bundle) EmulatorPIDs() map[string]int { return b.emulators.PIDs() }

func (b *Bundle) progressf(format string, args ...any) {
	b.options.Progress(fmt.Sprintf(format, args...))
}
