// nodemailer's smtp-server as an LMTP server that accepts every message and forgets it. node smtp_server.js PORT
"use strict";

const { SMTPServer } = require("smtp-server");

const server = new SMTPServer({
    lmtp: true,
    disabledCommands: ["STARTTLS", "AUTH"],
    disableReverseLookup: true,
    logger: false,
    onData(stream, session, callback) {
        stream.on("end", () => callback(null, session.envelope.rcptTo.map(() => true)));
        stream.resume();
    },
});

server.on("error", (error) => {
    console.error(error.message);
    process.exitCode = 1;
});
server.server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 1024 });
