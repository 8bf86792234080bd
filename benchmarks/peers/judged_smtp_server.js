// nodemailer's smtp-server as an LMTP server with all that it has, for the conformance kit.
// node judged_smtp_server.js PORT [proxy]: with "proxy" every connection begins with a PROXY header.
"use strict";

const { SMTPServer } = require("smtp-server");

const refusal = (code, text) => Object.assign(new Error(text), { responseCode: code });

const server = new SMTPServer({
    lmtp: true,
    size: 100000,
    disableReverseLookup: true,
    logger: false,
    authOptional: true,
    allowInsecureAuth: true,
    authMethods: ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"],
    useXClient: true,
    useXForward: true,
    useProxy: process.argv[3] === "proxy",
    onAuth(auth, session, callback) {
        const isRight =
            auth.method === "XOAUTH2" ? auth.accessToken === "token"
            : auth.method === "CRAM-MD5" ? auth.validatePassword("secret")
            : auth.password === "secret";
        if (isRight && auth.username === "judge") callback(null, { user: auth.username });
        else callback(refusal(535, "Authentication credentials invalid"));
    },
    onRcptTo(address, session, callback) {
        if (address.address === "unknown@example.org") callback(refusal(550, "No such user"));
        else callback();
    },
    onData(stream, session, callback) {
        stream.on("end", () => {
            const isTooLarge = stream.sizeExceeded;
            callback(null, session.envelope.rcptTo.map(() => (isTooLarge ? refusal(552, "Too large") : true)));
        });
        stream.resume();
    },
});

server.on("error", (error) => {
    // What a client did wrong is no reason to end.
    if (error.code === "EADDRINUSE") process.exit(1);
});
server.server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 1024 });
