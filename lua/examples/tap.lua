-- A converter that logs what a client says, line by line, and at the end how much it was. It looks, but changes nothing,
-- and what comes back from the target goes past the script:
--     [tap]
--     type = "lua"
--     path = "lua/examples/tap.lua"
-- Then `tap+tcp:*4:8000` is bound like any other address.
local connpipe = require "connpipe"
local shown_most = 200

connpipe.converter {
	id = "tap",
	accept = function(stream, argument, request)
		local who = request.peer.addr or "local"
		local rest, bytes = "", 0
		return connpipe.stream(stream, {
			read = function(below)
				local piece, err = below:read()
				if not piece then return nil, err end
				bytes = bytes + #piece
				rest = rest .. piece
				for line in rest:gmatch("([^\n]*)\n") do
					connpipe.log.info(who, "says", line:sub(1, shown_most))
				end
				rest = rest:match("[^\n]*$"):sub(1, shown_most)
				return piece
			end,
			close = function(cause) connpipe.log.info(who, "said", bytes, "bytes:", cause) end,
		})
	end,
}
