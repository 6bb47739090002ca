-- A converter that tells who connected in a first line, as the PROXY protocol does:
--     FROM 192.0.2.1 51234\r\n
-- Accepting (`from+tcp:*4:8000`) it reads the line, and the connection counts as coming from there. Connecting
-- (`from+tcp:10.0.0.1:8000`) it writes the line.
local connpipe = require "connpipe"

connpipe.converter {
	id = "from",
	accept = function(stream, argument, request)
		local line, err = stream:read_line()
		if not line then return nil, err end
		local addr, port = line:match("^FROM (%S+) (%d+)$")
		port = tonumber(port)
		if not port or port > 65535 then return nil, "the first line is no FROM line" end
		if not pcall(request.set_peer, request, addr, port) then return nil, "no address: " .. addr end
		request:set_fact("from", addr)
		return stream -- what was read ahead of the line goes on to the pipe
	end,
	connect = function(stream, argument, request)
		local peer = request and request.peer or {}
		stream:write(("FROM %s %d\r\n"):format(peer.addr or "0.0.0.0", peer.port or 0))
		return stream
	end,
}
