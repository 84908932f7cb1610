import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Control, copyWithoutGuards } from './controls.ts'
import type { Row, RowResult } from './row.ts'
import { runRow } from './run-row.ts'
import { type PostgresServer, startServer } from './server.ts'

/** Runs rows and controls. Rows without a server of their own share one server. */
export interface Matrix {
  /** The directory of the journals and logs. */
  directory: string
  run(row: Row): Promise<RowResult>
  /** Runs the row of a control against a copy of the sources without its guards. */
  runControl(control: Control): Promise<RowResult>
  close(options: { keepLogs: boolean }): Promise<void>
}

const root = join(import.meta.dirname, '../..')
/** A control waits for a shorter time than a row, because some jobs may never end without the guard. */
const controlDrainTimeoutSeconds = 30

/** @param isShort runs the short version of every row */
export async function openMatrix(isShort: boolean): Promise<Matrix> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-fault-'))
  // If root runs the tests, Postgres runs as another user. That user needs access to the directory.
  await chmod(directory, 0o755)
  // The copies lie within the checkout so that they find node_modules.
  await mkdir(join(root, '.data'), { recursive: true })
  const copies = await mkdtemp(join(root, '.data/fault-'))
  let server: Promise<PostgresServer> | undefined
  const sharedServer = () => {
    server ??= startServer({ dataDir: join(directory, 'server') })
    return server
  }
  return {
    directory,
    run: (row) => runRow(row, { sharedServer, isShort, root, directory }),
    async runControl(control) {
      const copy = join(copies, control.name)
      await copyWithoutGuards(control, root, copy)
      const drainTimeoutSeconds = controlDrainTimeoutSeconds
      return runRow(control.row, { sharedServer, isShort, root: copy, directory, drainTimeoutSeconds })
    },
    async close({ keepLogs }) {
      await (await server)?.close()
      await rm(copies, { recursive: true, force: true })
      if (!keepLogs) await rm(directory, { recursive: true, force: true })
    },
  }
}
