import { Socket } from 'node:net'
import type { Test } from 'tap'

/** A connection that this process has tried to open. */
export interface ConnectionAttempt {
  address: string
  port: number
}

/**
 * Records every connection that this process tries to open until the test ends, with and without TLS. Node emits the
 * event with the address that it passes to the operating system.
 */
export function recordConnections(t: Test): ConnectionAttempt[] {
  const attempts: ConnectionAttempt[] = []
  const { connect } = Socket.prototype
  Socket.prototype.connect = function (this: Socket, ...args: Parameters<typeof connect>) {
    this.on('connectionAttempt', (address: string, port: number) => attempts.push({ address, port }))
    return connect.apply(this, args)
  } as typeof connect
  t.teardown(() => {
    Socket.prototype.connect = connect
  })
  return attempts
}
