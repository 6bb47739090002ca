-- One port for TLS, SSH and HTTP, told apart by what the client sends first:
--     [port]
--     type = "lua"
--     path = "lua/examples/first_bytes.lua"
--     bind = "tcp:*4:443"
--     tls  = "tcp:10.0.0.1:443"
--     ssh  = "tcp:10.0.0.1:22"
--     http = "tcp:10.0.0.1:80"
local connpipe = require "connpipe"
local config = connpipe.config

connpipe.router {
	bind = { config.bind },
	route = function(request)
		local first = request:peek(4, 2)
		if first:sub(1, 2) == "\22\3" then return config.tls end -- a handshake record of TLS (RFC 8446, 5.1)
		if first == "SSH-" or first == "" then return config.ssh end -- some SSH clients wait for the server
		if first:match("^%u%u%u") then return config.http end
		return nil, "neither TLS nor SSH nor HTTP"
	end,
}
