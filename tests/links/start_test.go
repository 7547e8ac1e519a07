package links_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A regular expression that is compiled when a function starts costs its cold start a tenth of a millisecond and more:
// it is compiled when it is first used.
func TestNoFunctionCompilesARegularExpressionAtItsStart(t *testing.T) {
	linked := map[string]bool{}
	for path, p := range packages(t) {
		if strings.HasPrefix(path, "carillon/functions/") {
			for _, dependency := range append(p.Deps, path) {
				linked[dependency] = true
			}
		}
	}
	looked := 0
	for _, path := range slices.Sorted(maps.Keys(linked)) {
		folder, ours := strings.CutPrefix(path, "carillon/")
		if !ours {
			continue
		}
		files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			looked++
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, declaration := range parsed.Decls {
				if variables, ok := declaration.(*ast.GenDecl); ok && variables.Tok == token.VAR {
					assert.False(t, compiles(variables), "%s: compile it when it is first used", file)
				}
			}
		}
	}
	assert.Greater(t, looked, 100, "files of ours that functions link")
}

// compiles reports whether a declaration calls regexp outside of a function of its own.
func compiles(declaration ast.Node) bool {
	found := false
	ast.Inspect(declaration, func(node ast.Node) bool {
		if selector, ok := node.(*ast.SelectorExpr); ok {
			name, isName := selector.X.(*ast.Ident)
			found = found || isName && name.Name == "regexp" && strings.Contains(selector.Sel.Name, "Compile")
		}
		_, function := node.(*ast.FuncLit)
		return !function
	})
	return found
}
