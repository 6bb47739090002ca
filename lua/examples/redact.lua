-- A converter that hides words in lines, in both directions. A line may come in pieces; it is changed when it is whole:
--     [redact]
--     type  = "lua"
--     path  = "lua/examples/redact.lua"
--     words = ["password", "secret"]
-- Then `redact+tcp:*4:8000` is bound, or `redact+tcp:10.0.0.1:80` connected to, like any other address. A line
-- `user=x password=y` goes on as `user=x password=***`.
local connpipe = require "connpipe"
local line_most = 65536

local function hide(line)
	for _, word in ipairs(connpipe.config.words) do
		line = line:gsub(word .. "=%S+", word .. "=***")
	end
	return line
end

-- Takes pieces, returns the lines that are whole by now, changed.
local function lines()
	local rest = ""
	return function(piece)
		rest = rest .. piece
		local whole, tail = rest:match("^(.*\n)([^\n]*)$")
		rest = tail or rest
		if #rest > line_most then error("a line is longer than " .. line_most .. " bytes") end
		return whole and hide(whole) or ""
	end, function() return hide(rest) end -- … and what is left at the end
end

local function redacted(stream)
	local incoming, incoming_rest = lines()
	local outgoing, outgoing_rest = lines()
	local ended
	return connpipe.stream(stream, {
		read = function(below)
			if ended then return nil end
			local piece, err = below:read()
			if piece then return incoming(piece) end
			if err ~= "end of file" then return nil, err end
			ended = true
			return incoming_rest()
		end,
		write = function(below, piece) return below:write(outgoing(piece)) end,
		finish = function(below) return below:write(outgoing_rest()) end,
	})
end

connpipe.converter { id = "redact", accept = redacted, connect = redacted }
