import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startEmbeddedPostgres } from '../../src/embedded-postgres/server.ts'
import { migrate } from '../../src/migrate/migrate.ts'
import { asRole, createTestRoles, queryOnce } from '../support/database.ts'
import { type HostedProcess, startProcess } from './process.ts'

/** What is attacked: a Postgres, an API and a worker, all on loopback. */
export interface Target {
  directory: string
  /** The URL of the database, as a superuser. */
  databaseUrl: string
  api: HostedProcess
  worker: HostedProcess
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  query(text: string, values?: unknown[]): Promise<any[]>
  close(options: { keepLogs: boolean }): Promise<void>
}

export interface TargetOptions {
  /** Path of the configuration of an app. Default: the app of the hostile traffic. */
  config?: string
  /** Directory of the app's migrations. */
  appMigrations?: string
  env?: Record<string, string>
}

export async function startTarget({
  config = join(import.meta.dirname, 'app/accepted.config.ts'),
  appMigrations,
  env = {},
}: TargetOptions = {}): Promise<Target> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-hostile-'))
  // If root runs the tests, Postgres runs as another user. That user needs access to the directory.
  await chmod(directory, 0o755)
  const postgres = await startEmbeddedPostgres({ dataDir: join(directory, 'postgres'), database: 'hostile' })
  const databaseUrl = postgres.url
  const stops: (() => Promise<void>)[] = [() => postgres.stop('immediate')]
  const stopAll = async () => {
    for (const stop of stops.toReversed()) await stop()
  }
  try {
    await createTestRoles(databaseUrl)
    await migrate({ url: asRole(databaseUrl, 'migrate'), ...(appMigrations && { appMigrations }) })
    const worker = await startProcess('worker', { databaseUrl, directory, config, env })
    stops.push(() => worker.stop())
    const api = await startProcess('api', { databaseUrl, directory, config, env })
    stops.push(() => api.stop())
    return {
      directory,
      databaseUrl,
      api,
      worker,
      query: (text, values) => queryOnce(databaseUrl, text, values),
      async close({ keepLogs }) {
        await stopAll()
        if (!keepLogs) await rm(directory, { recursive: true, force: true })
      },
    }
  } catch (error) {
    await stopAll()
    throw error
  }
}
