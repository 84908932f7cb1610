import pg from 'pg'
import { markConnectError } from './postgres-error.ts'
import { explainConnectError, pinSession, startupSettings } from './session-settings.ts'
import { typeParsers } from './type-parsers.ts'

/** The parts of `pg.Client` that its types leave out. */
interface ClientInternals {
  binary: boolean
  processID: number | null
  connection: NodeJS.EventEmitter
  getStartupConf(): Record<string, string>
}

const base = pg.Client.prototype as unknown as ClientInternals

/** Settings that Postgres reports to its clients whenever they change; `on` means that writes fail. */
const readOnlySettings = ['default_transaction_read_only', 'in_hot_standby']

/**
 * A `pg.Client` whose answers depend neither on the settings of the database or the role nor on the type parsers of the
 * process. Use this class, or a subclass, for every connection. It also knows whether the server accepts writes.
 */
export class PinnedClient extends pg.Client {
  /** Called when the server of an open connection stops accepting writes. */
  onReadOnly: () => void = () => {}
  readonly #readOnlySettings = new Set<string>()
  #hasRefusedWrite = false

  constructor(config?: string | pg.ClientConfig) {
    const given = typeof config === 'string' ? { connectionString: config } : config
    // A pool hides the password from the spread.
    super({ ...given, ...(given?.password !== undefined && { password: given.password }), types: typeParsers })
    const internals = this as unknown as ClientInternals
    // Binary values have parsers of their own. An app may switch them on for the whole process.
    internals.binary = false
    internals.connection.on('parameterStatus', ({ parameterName: name, parameterValue: value }) => {
      if (!readOnlySettings.includes(name)) return
      const wasReadOnly = this.isReadOnly()
      if (value === 'on') this.#readOnlySettings.add(name)
      else this.#readOnlySettings.delete(name)
      if (!wasReadOnly && this.isReadOnly()) this.onReadOnly()
    })
  }

  /** Returns the settings for the startup message. pg calls it. */
  getStartupConf(): Record<string, string> {
    return { ...base.getStartupConf.call(this), ...startupSettings }
  }

  // biome-ignore lint/suspicious/noExplicitAny: pg's connect returns a promise, or nothing when it gets a callback
  override connect(callback?: any): any {
    const connecting = super.connect().then(
      (client: unknown) => {
        this.#pinSession()
        return client
      },
      (error: unknown) => {
        throw markConnectError(explainConnectError(error, this.database ?? ''))
      },
    )
    if (!callback) return connecting
    connecting.then(() => callback(null, this), callback)
  }

  /** Sends the statement without waiting, so that the next statement follows it at once. */
  #pinSession(): void {
    const { processID } = this as unknown as ClientInternals
    if (processID === null) return
    // The next statement reports a broken connection. `assertSessionSettings` reports settings that are still wrong.
    super.query(pinSession(processID)).catch(() => {})
  }

  /**
   * Whether the server has reported that it is read-only, or has refused a write for that reason. A pooler does not pass
   * the reports on.
   */
  isReadOnly(): boolean {
    return this.#hasRefusedWrite || this.#readOnlySettings.size > 0
  }

  /** Records that the server has refused a write because it is read-only. */
  protected recordRefusedWrite(): void {
    const wasReadOnly = this.isReadOnly()
    this.#hasRefusedWrite = true
    if (!wasReadOnly) this.onReadOnly()
  }
}
