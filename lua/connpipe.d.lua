---@meta connpipe

-- Types of the module `connpipe` for editors (https://luals.github.io/wiki/annotations/). Nothing here is run.
-- What each function does, with examples: systems/lua/README.md.

---@class connpipe
---@field config table the system's table in the configuration
---@field config_dir string the configuration directory, absolute
---@field worker integer the number of this worker, from 0
---@field shared connpipe.Shared
---@field log connpipe.Log
---@field json connpipe.Json
local connpipe = {}

---An address as fields; which there are depends on the connector.
---@class connpipe.Fields
---@field connector string
---@field addr string?
---@field port integer?
---@field path string?
---@field multiplex string?
---@field [string] string|number|boolean|nil

---An address: text or fields.
---@alias connpipe.Address string|connpipe.Fields

---@class connpipe.Peer
---@field addr string? nil where there is none (a unix socket)
---@field port integer?

---@class connpipe.Request
---@field address connpipe.Fields the incoming address
---@field text string the same as text
---@field peer connpipe.Peer who connected
---@field facts table<string, string|number|boolean> what else is known: sni, alpn, …
local Request = {}

---The client's first bytes, without consuming them. Waits. Only for routers.
---@param n integer how many, at most 65536
---@param timeout number? seconds; without: `timeouts.preamble`
---@return string bytes fewer than n if no more came
function Request:peek(n, timeout) end

---A fact. Where the client's first bytes tell it (proto, sni, alpn, host, path, method) it waits for them; only for
---routers. Others are there, or are nil, at once.
---@param name string
---@param timeout number? seconds, from the first wait on; without: 5 for TLS, 10 for HTTP, `timeouts.preamble` in silence
---@return string|number|boolean|nil value nil: there is none
function Request:fact(name, timeout) end

---Add a fact.
---@param name string
---@param value string|number|boolean
function Request:set_fact(name, value) end

---Say who connected.
---@param addr string an IP address
---@param port integer
function Request:set_peer(addr, port) end

---@class connpipe.Stream
local Stream = {}

---Exactly n bytes, fewer only at the end of file; without n whatever comes next; of messages the next one, and whether it
---is text. Waits.
---@param n integer?
---@return string? bytes
---@return string|boolean|nil reason or is_text
function Stream:read(n) end

---Up to the next line feed, without it and a carriage return before it. Waits.
---@return string? line
---@return string? reason
function Stream:read_line() end

---Waits until all of it was taken.
---@param text string
---@param is_text boolean? messages: text, where the protocol tells text from binary
---@return true?
---@return string? reason
function Stream:write(text, is_text) end

---End of file for the other side, behind everything written.
---@return true?
---@return string? reason
function Stream:shutdown() end

function Stream:close() end

---@class connpipe.RouterDefinition
---@field id string? without: the system's id
---@field bind string|string[]? addresses whose connections it is asked about
---@field route fun(request: connpipe.Request): (connpipe.Address|connpipe.Address[]|nil), string?

---Declare a router; while the script is loaded.
---@param definition connpipe.RouterDefinition
function connpipe.router(definition) end

---A connection that a connector's `accept` looks at.
---@class connpipe.Newcomer
---@field address connpipe.Fields the address that is bound
---@field text string the same as text
---@field peer connpipe.Peer who connected
---@field set_peer fun(self: connpipe.Newcomer, addr: string, port: integer)

---@class connpipe.ConnectorDefinition
---@field aliases string|string[]
---@field path boolean? its addresses may have a path
---@field messages boolean? its streams keep message boundaries
---@field connect (fun(address: connpipe.Fields, request: connpipe.Request?): (connpipe.Stream|connpipe.Address|nil), string?)?
---@field bind (fun(address: connpipe.Fields): (connpipe.Address|connpipe.Address[]|nil), string?)? what to bind in its place
---@field accept (fun(stream: connpipe.Stream, request: connpipe.Newcomer): connpipe.Stream?, string?)? looks at each connection first
---@field fields string[]? of its addresses: "name", "name:kind", "name:kind?"
---@field parse (fun(text: string, alias: string): table<string, string|number|boolean>?, string?, integer?)? text to fields, or nil, a message, and where
---@field format (fun(fields: table<string, string|number|boolean>, alias: string): string)? fields to text

---Declare a connector; while the script is loaded.
---@param definition connpipe.ConnectorDefinition
function connpipe.connector(definition) end

---%XX for each character of `special`, for % and for control characters.
---@param text string
---@param special string? without: space and !/:{}
---@return string
function connpipe.escape(text, special) end

---@param text string
---@return string? text
---@return string? message a broken escape
function connpipe.unescape(text) end

---@alias connpipe.Wrap fun(stream: connpipe.Stream, argument: string?, request: connpipe.Request?): connpipe.Stream?, string?

---@class connpipe.ConverterDefinition
---@field id string
---@field accept connpipe.Wrap?
---@field connect connpipe.Wrap?
---@field messages boolean? it can be put on streams that carry messages, too
---@field frames boolean? it makes messages of bytes

---Declare a converter; while the script is loaded.
---@param definition connpipe.ConverterDefinition
function connpipe.converter(definition) end

---@class connpipe.StreamFunctions
---@field read (fun(below: connpipe.Stream): string?, string|boolean|nil)? called when more is wanted; nil: the end, or broken with a reason
---@field write (fun(below: connpipe.Stream, bytes: string, is_text: boolean): any, string?)? called with what is to go out
---@field finish fun(below: connpipe.Stream)? called once when nothing more goes out
---@field close fun(cause: string)? called once at the very end; cannot wait
---@field messages boolean? what it carries, if that is not what `below` carries

---A stream whose data goes through the script.
---@param below connpipe.Stream the handler's; it is taken
---@param functions connpipe.StreamFunctions
---@return connpipe.Stream
function connpipe.stream(below, functions) end

---Connect to an address. Waits.
---@param address connpipe.Address
---@param timeout number? seconds
---@return connpipe.Stream?
---@return string? reason
function connpipe.connect(address, timeout) end

---The addresses of a name. Waits.
---@param host string
---@return string[]?
---@return string? reason
function connpipe.resolve(host) end

---Wait.
---@param seconds number
function connpipe.sleep(seconds) end

---Run a function again and again, on every worker.
---@param seconds number
---@param f fun()
function connpipe.every(seconds, f) end

---@class connpipe.Shared
local Shared = {}

---@param key string
---@return string|number|boolean|nil
function Shared:get(key) end

---@param key string
---@param value string|number|boolean|nil nil removes the key
---@param ttl number? seconds
---@return true?
---@return string? reason
function Shared:set(key, value, ttl) end

---Set it only if it is not there.
---@param key string
---@param value string|number|boolean
---@param ttl number? seconds
---@return true?
---@return string? reason
function Shared:add(key, value, ttl) end

---@param key string
---@param delta number? without: 1
---@param initial number? what it begins with if it is not there
---@param ttl number? seconds, from when it begins
---@return number?
---@return string? reason
function Shared:incr(key, delta, initial, ttl) end

---@param key string
---@return boolean existed
function Shared:delete(key) end

---@class connpipe.Log
---@field error fun(...: any)
---@field warn fun(...: any)
---@field info fun(...: any)
---@field debug fun(...: any)
---@field trace fun(...: any)

---@class connpipe.Json
---@field null lightuserdata
local Json = {}

---@param text string
---@return any
---@return string? reason
function Json.decode(text) end

---@param value any
---@return string
function Json.encode(value) end

return connpipe
