-- One port for SSH, plain HTTP, and TLS servers by name, whose certificates stay where they are:
--     [port]
--     type = "lua"
--     path = "lua/examples/protocols.lua"
--     bind = "tcp:*4:443"
--     ssh  = "tcp:10.0.0.1:22"
--     http = "tcp:10.0.0.1:80"
--     [port.tls]
--     "www.example.org" = "tcp:10.0.0.2:443"
--     default           = "tcp:10.0.0.3:443"
local connpipe = require "connpipe"
local config = connpipe.config

connpipe.router {
	bind = { config.bind },
	route = function(request)
		local proto = request:fact("proto", 2)
		if proto == "tls" then return config.tls[request:fact("sni") or "default"] or config.tls.default end
		if proto == "http" then return config.http end
		if proto == "ssh" or request:peek(1, 0.001) == "" then return config.ssh end -- some clients wait for the server
		return nil, "neither TLS nor SSH nor HTTP"
	end,
}
