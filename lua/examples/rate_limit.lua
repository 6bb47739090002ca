-- At most `burst` connections in `seconds` from one source, counted by all workers together:
--     [limit]
--     type    = "lua"
--     path    = "lua/examples/rate_limit.lua"
--     bind    = "tcp:*4:8000"
--     to      = "tcp:10.0.0.1:80"
--     burst   = 20
--     seconds = 10
local connpipe = require "connpipe"
local config = connpipe.config

connpipe.router {
	bind = { config.bind },
	route = function(request)
		local source = request.peer.addr or "local"
		local count = connpipe.shared:incr("from " .. source, 1, 0, config.seconds)
		if count and count > config.burst then return nil, "too many connections from " .. source end
		return config.to
	end,
}
