import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { queryOnce } from '../support/database.ts'
import { check } from './checker.ts'
import { type Load, startLoad } from './client.ts'
import { openJournal } from './journal.ts'
import { startFaultProxy } from './proxy.ts'
import { type Row, type RowContext, type RowResult, waitUntilDrained } from './row.ts'
import type { PostgresServer } from './server.ts'
import { createProcess, type SupervisedProcess } from './supervised-process.ts'

export interface RunRowOptions {
  /** Returns the shared server, for rows that have no server of their own. */
  sharedServer: () => Promise<PostgresServer>
  isShort: boolean
  /** The directory of the sources. */
  root: string
  /** The directory for journals and logs. */
  directory: string
  /** All jobs must end within this time after the faults. Default: {@link defaultDrainTimeoutSeconds}. */
  drainTimeoutSeconds?: number
}

const defaultDrainTimeoutSeconds = 150

/** Numbers the directories and databases of the rows. */
let rowCount = 0

/** Runs a row: starts its processes, causes its faults, waits until every job has ended, and checks the database. */
export async function runRow(row: Row, options: RunRowOptions): Promise<RowResult> {
  const number = ++rowCount
  const directory = join(options.directory, `${number}-${row.name}`)
  await mkdir(directory)
  const server = row.startServer ? await row.startServer(directory) : await options.sharedServer()
  const databaseUrl = await server.createDatabase(`fault_${number}`)
  const databaseName = new URL(databaseUrl).pathname.slice(1)
  const proxy = await startFaultProxy(server.port)
  const journal = await openJournal(join(directory, 'journal.jsonl'))
  const processes: SupervisedProcess[] = []
  const loads: Load[] = []
  let currentServer = server
  const context: RowContext = {
    ...{ server, proxy, databaseUrl, directory, journal, isShort: options.isShort },
    apis: [],
    workers: [],
    async createProcess(command, processOptions) {
      const process = await createProcess(command, {
        ...{ root: options.root, directory, databaseUrl: () => proxy.urlOf(databaseUrl) },
        ...row.processOptions,
        ...processOptions,
      })
      processes.push(process)
      return process
    },
    startLoad(loadOptions) {
      const url = () => (context.apis[Math.floor(Math.random() * context.apis.length)] as SupervisedProcess).url
      const load = startLoad({ journal, url, ...loadOptions })
      loads.push(load)
      return load
    },
    query: (text, values) => queryOnce(currentServer.urlOf(databaseName), text, values),
  }
  try {
    await startProcesses(row, context)
    const outcome = await row.run(context)
    const { faultCount, notes = [], findings = [], checkAfterDrain } = outcome
    currentServer = outcome.server ?? server
    const faultsEndedAt = performance.now()
    const pending = await waitUntilDrained(context, options.drainTimeoutSeconds ?? defaultDrainTimeoutSeconds)
    const recoverySeconds = (performance.now() - faultsEndedAt) / 1000
    if (pending > 0) findings.push(`${pending} jobs did not end`)
    if (checkAfterDrain) findings.push(...(await checkAfterDrain()))
    const result = await check({
      journal,
      executions: join(directory, 'executions'),
      databaseUrl: currentServer.urlOf(databaseName),
      ...(row.isExpectedToFail && { isExpectedToFail: row.isExpectedToFail }),
      mayEndUnsuccessfully: row.mayEndUnsuccessfully ?? false,
    })
    const crashes = processes.reduce((sum, process) => sum + process.crashCount(), 0)
    if (crashes > 0 && !row.mayCrash) findings.push(`${crashes} processes crashed`)
    result.findings.unshift(...findings)
    return { ...result, row: row.name, faultCount, notes, recoverySeconds }
  } finally {
    await Promise.all(processes.map((process) => process.end('SIGKILL')))
    await Promise.all(loads.map((load) => load.stopWithoutRetry()))
    await proxy.close()
    await journal.close()
    await (row.startServer
      ? currentServer.close()
      : queryOnce(server.urlOf('postgres'), `drop database ${databaseName} with (force)`)
    ).catch(() => {})
  }
}

async function startProcesses({ apiCount = 1, workerCount = 2 }: Row, context: RowContext): Promise<void> {
  for (let n = 0; n < apiCount; n++) context.apis.push(await context.createProcess('api'))
  for (let n = 0; n < workerCount; n++) context.workers.push(await context.createProcess('worker'))
  const processes = [...context.apis, ...context.workers]
  for (const process of processes) process.start()
  await Promise.all(processes.map((process) => process.ready()))
}
