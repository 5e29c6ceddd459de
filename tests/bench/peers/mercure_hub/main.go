// Caddy with the Mercure module, put together as xcaddy does it: go install refuses the module's own main package,
// because its go.mod has a replace directive.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/dunglas/mercure/caddy"
)

func main() {
	caddycmd.Main()
}
