module hub

go 1.26

require (
	github.com/caddyserver/caddy/v2 v2.11.9
	github.com/dunglas/mercure v0.24.2
	github.com/dunglas/mercure/caddy v0.24.2
)
