// The real one fetches a compiled library, which a bridge without encryption never calls.
module.exports = new Proxy({}, { get: (_, name) => class { static name = String(name); } });
