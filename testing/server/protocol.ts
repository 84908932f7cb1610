import type { Socket } from 'node:net'
import { createInterface } from 'node:readline'

/** What the parent sends to a new server process. */
export interface Start {
  /** The name of the registration: the same for all test processes that share the server. */
  name: string
  number: number
  /** The URL of a running server. Undefined: the process starts a Postgres. */
  databaseUrl: string | undefined
  /** How long the server waits for another test process when the last one has ended. */
  lingerMs: number
}

/** What a new server process answers to its parent. */
export type Started = 'registered' | 'lost' | { error: string }

/** What a test process sends. The keys are of templates. */
export type Request = { token: string } | { claim: string } | { made: string } | { failed: string }

/** What the server process sends. */
export type Reply =
  | { greeting: typeof greeting }
  | { server: ServerAccess }
  | { error: string }
  /** The answer to a claim. If the template is not made, this client makes it. */
  | { template: { key: string; database: string; isMade: boolean } }

export const greeting = 'accepted-testing'

export interface ServerAccess {
  /** The URL of a database from which other databases are created. */
  url: string
  /** The names of all databases of this test run start with it. */
  prefix: string
  /** The id of the server process. */
  pid: number
}

export const send = (socket: Socket, message: Request | Reply): void =>
  void socket.write(`${JSON.stringify(message)}\n`)

/** Calls a function with each message. Closes the connection when it gets something else. */
export function receive<Message>(socket: Socket, onMessage: (message: Message) => void): void {
  const lines = createInterface(socket)
  // It emits the errors of the connection too, whose end the users of the socket handle.
  lines.on('error', () => {})
  lines.on('line', (line) => {
    let message: Message
    try {
      message = JSON.parse(line)
    } catch {
      socket.destroy()
      return
    }
    onMessage(message)
  })
}
