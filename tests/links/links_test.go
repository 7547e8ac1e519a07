// Package links_test holds what each function links to what it does, and the rooms of the domains to what they are for.
package links_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/tests/document"
)

const (
	root     = "../.."
	sdk      = "github.com/aws/aws-sdk-go-v2/"
	services = sdk + "service/"
	// maxMain is how many lines a function's main.go has at most: it opens what its handler needs, and no more.
	maxMain = 30
)

// domains are the folders of shared/ that hold one.
var domains = []string{"engage", "ott", "product"}

// pkg is a package as go list tells of it.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string // all that it imports, directly or not
}

// packages lists the functions and what they share, by import path. They are looked at as they are built for Lambda.
func packages(t *testing.T) map[string]pkg {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-tags", "lambda.norpc",
		"-json=ImportPath,Imports,Deps", "./functions/...", "./shared/...")
	command.Dir = root
	command.Stderr = os.Stderr
	output, err := command.Output()
	require.NoError(t, err)
	listed := map[string]pkg{}
	decoder := json.NewDecoder(strings.NewReader(string(output)))
	for {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		listed[p.ImportPath] = p
	}
	require.NotEmpty(t, listed)
	return listed
}

// link is a service's client in the SDK, and what has to be in the environment of a function that links it.
type link struct{ service, variable, what string }

var links = []link{
	{"sqs", `^\w+_QUEUE_URL$`, "queue"},
	{"dynamodb", `^\w+_TABLE$`, "table"},
	// A registration names the secret with its credentials.
	{"secretsmanager", `^\w+_SECRET$|_SECRET_PREFIX$|^REGISTRATIONS_TABLE$`, "secret"},
	{"eventbridge", `^EVENT_BUS$`, "bus"},
	{"sesv2", `^MAIL_CONFIGURATION_SET$`, "mail"},
}

// A client of a service that a function does not use makes every cold start longer.
func TestAFunctionLinksTheServicesOfItsEnvironment(t *testing.T) {
	listed := packages(t)
	for name, function := range document.Load(t).Functions(t) {
		t.Run(name, func(t *testing.T) {
			p, found := listed["carillon/functions/"+name]
			require.True(t, found, "functions/%s is missing", name)
			assert.NotContains(t, p.Deps, sdk+"config", "shared/awsconfig stands for it")
			for _, dep := range p.Deps {
				service, is := strings.CutPrefix(dep, services)
				if !is || strings.Contains(service, "/") {
					continue
				}
				i := slices.IndexFunc(links, func(l link) bool { return l.service == service })
				if !assert.GreaterOrEqual(t, i, 0, "say in tests/links what the environment of who links %s has", dep) {
					continue
				}
				has := false
				for variable := range document.Environment(t, function) {
					has = has || regexp.MustCompile(links[i].variable).MatchString(variable)
				}
				assert.True(t, has, "its environment names no %s: %s", links[i].what, way(listed, p, dep))
			}
		})
	}
}

// way finds by which of our packages a package links another one.
func way(listed map[string]pkg, p pkg, dep string) string {
	if slices.Contains(p.Imports, dep) {
		return p.ImportPath + " → " + dep
	}
	i := slices.IndexFunc(p.Imports, func(path string) bool { return slices.Contains(listed[path].Deps, dep) })
	if i < 0 {
		return p.ImportPath + " → … → " + dep
	}
	return p.ImportPath + " → " + way(listed, listed[p.Imports[i]], dep)
}

// inDomain reports whether an import path is a domain's, one of its rooms or its root.
func inDomain(importPath, domain string) bool {
	root := "carillon/shared/" + domain
	return importPath == root || strings.HasPrefix(importPath, root+"/")
}

func TestADomainImportsNoOther(t *testing.T) {
	for _, p := range packages(t) {
		for _, own := range domains {
			for _, other := range domains {
				if !inDomain(p.ImportPath, own) || other == own {
					continue
				}
				for _, imported := range p.Imports {
					assert.False(t, inDomain(imported, other), "%s imports %s", p.ImportPath, imported)
				}
			}
		}
	}
}

// The root of a domain holds types, decoding and checks; its api holds handlers, which know neither its store nor what
// that is made of.
func TestTheRoomsOfADomain(t *testing.T) {
	listed := packages(t)
	for _, domain := range domains {
		t.Run(domain, func(t *testing.T) {
			room := func(name string) pkg {
				p, found := listed[path.Join("carillon/shared", domain, name)]
				require.True(t, found, "shared/%s/%s is missing", domain, name)
				return p
			}
			var ways []string
			for _, dep := range room("").Deps {
				if strings.HasPrefix(dep, "github.com/aws/") {
					ways = append(ways, way(listed, room(""), dep))
				}
			}
			slices.SortFunc(ways, func(a, b string) int { return len(a) - len(b) }) // what is nearest tells most
			assert.Empty(t, ways[:min(len(ways), 5)], "the root of a domain imports nothing of AWS's")
			for _, dep := range []string{services + "dynamodb", services + "sqs", room("store").ImportPath} {
				assert.NotContains(t, room("api").Deps, dep, way(listed, room("api"), dep))
			}
		})
	}
}

func TestMainsAreShort(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "functions", "*", "*.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		assert.Equal(t, "main.go", filepath.Base(file), "%s: what is more belongs into shared/", file)
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.LessOrEqual(t, strings.Count(string(text), "\n"), maxMain, file)
	}
}
