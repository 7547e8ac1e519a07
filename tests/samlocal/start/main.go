// Command start serves the bundle under `sam local start-api`, against emulators that it starts, until it is
// interrupted. It leaves what `sam local invoke` needs in .local/sam-local: the functions' variables and events that
// work.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"carillon/local"
	"carillon/tests/samlocal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := realMain(ctx)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil && !interrupted {
		fmt.Fprintln(os.Stderr, "sam-local:", err)
		os.Exit(1)
	}
}

func realMain(ctx context.Context) error {
	sam := flag.String("sam", "sam", "the SAM CLI")
	flag.Parse()
	port := 3000
	if text := os.Getenv("PORT"); text != "" {
		var err error
		if port, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("PORT is no number: %w", err)
		}
	}
	if err := samlocal.Engine(ctx); err != nil {
		return fmt.Errorf("a Docker engine is needed, start it (dockerd) and try again: %w", err)
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	release, err := samlocal.BaseImage(ctx, say)
	if err != nil {
		return err
	}
	defer release()
	say("starting the emulators")
	backend, err := samlocal.NewBackend(ctx, root, say)
	if err != nil {
		return err
	}
	defer backend.Close()

	folder := filepath.Join(root, ".local", "sam-local")
	if err := os.MkdirAll(filepath.Join(folder, "events"), 0o700); err != nil {
		return err
	}
	cli := samlocal.CLI{
		Path:     *sam,
		Root:     root,
		BuildDir: filepath.Join(root, ".aws-sam", "build"),
		EnvVars:  filepath.Join(folder, "env.json"),
		AWS:      backend.AWS,
		Output:   os.Stderr,
	}
	if err := backend.WriteEnvVars(cli.EnvVars); err != nil {
		return err
	}
	if err := cli.Build(ctx); err != nil {
		return err
	}
	api, err := cli.StartAPI(ctx, port)
	if err != nil {
		return err
	}
	defer api.Stop()
	if err := writeEvents(ctx, cli, filepath.Join(folder, "events"), api.URL, backend.Values); err != nil {
		return err
	}
	fmt.Printf(`
The bundle is served by sam local at %[1]s. Try

  curl -s %[1]s/v2/token -H 'content-type: application/json' \
    -d '{"grant_type":"client_credentials","client_id":"%[2]s","client_secret":"%[3]s"}'

and, from another terminal, any function on its own (the tokens in these events live 15 minutes):

  %[4]s local invoke OauthTokenFunction --event .local/sam-local/events/oauth-token.json \
    --skip-pull-image --parameter-overrides Architecture=%[5]s

Ctrl-C stops it all.
`, api.URL, backend.Values["ott.clientId"], backend.Values["ott.clientSecret"], *sam, samlocal.Architecture())
	select {
	case <-ctx.Done():
		return nil
	case <-api.Done():
		return errors.New("sam local start-api ended")
	}
}

// writeEvents fills in every event of the repository, with tokens that the running API grants, a push that it takes and
// a product.
func writeEvents(ctx context.Context, cli samlocal.CLI, into, api string, values map[string]string) error {
	events := filepath.Join(cli.Root, "events")
	// In this order: each needs what those before it granted.
	for _, grant := range []struct{ value, event, member string }{
		{"ott.token", "oauth-token", "access_token"},
		{"engage.token", "engage-token", "accessToken"},
		{"engage.requestId", "engage-batch", "requestId"},
	} {
		event, err := local.FillEvent(filepath.Join(events, grant.event+".json"), values)
		if err != nil {
			return err
		}
		if values[grant.value], err = post(ctx, api, event, grant.member); err != nil {
			return err
		}
	}
	if err := createProduct(ctx, cli, events, into, values); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(events, "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		event, err := local.FillEvent(file, values)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(into, filepath.Base(file)), event, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// createProduct has the function do it: over HTTP, sam's server would drop the headers with an underscore in their
// name.
func createProduct(ctx context.Context, cli samlocal.CLI, events, into string, values map[string]string) error {
	const name = "product-create.json"
	event, err := local.FillEvent(filepath.Join(events, name), values)
	if err != nil {
		return err
	}
	file := filepath.Join(into, name)
	if err := os.WriteFile(file, event, 0o600); err != nil {
		return err
	}
	answer, err := cli.Invoke(ctx, "ProductCreateFunction", file)
	if err != nil {
		return err
	}
	created, err := samlocal.CreatedProduct(answer)
	maps.Copy(values, created)
	return err
}

// post sends the request that an event stands for and returns a member of its answer.
func post(ctx context.Context, api string, raw []byte, member string) (string, error) {
	var event struct {
		RawPath, RawQueryString, Body string
		Headers                       map[string]string
	}
	if err := json.Unmarshal(raw, &event); err != nil {
		return "", err
	}
	url := api + event.RawPath + "?" + event.RawQueryString
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(event.Body))
	if err != nil {
		return "", err
	}
	for _, name := range []string{"Content-Type", "X-Federated-Purpose", "Authorization"} {
		req.Header.Set(name, event.Headers[strings.ToLower(name)])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return "", err
	}
	var answer map[string]any
	if err := json.Unmarshal(body.Bytes(), &answer); err != nil {
		return "", fmt.Errorf("%s answered %s", url, res.Status)
	}
	value, ok := answer[member].(string)
	if !ok {
		return "", fmt.Errorf("%s granted no %s: %s", url, member, res.Status)
	}
	return value, nil
}

func say(line string) { fmt.Fprintln(os.Stderr, "sam-local:", line) }
