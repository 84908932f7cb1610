import { type Process, startAccepted, startModule } from '../core/process.ts'
import type { Server } from '../core/server.ts'

/** A job system with the settings that its documentation recommends for recovery. */
export interface CellContender {
  name: string
  createDatabase(server: Server, name: string): Promise<string>
  /** Resolves when the worker runs jobs. */
  startWorker(directory: string, env: NodeJS.ProcessEnv): Promise<Process>
  startProducer(directory: string, env: NodeJS.ProcessEnv): Promise<Process>
  /** The schemas whose dead rows are counted. */
  schemas: readonly string[]
  /** The tables that claims and completions change. */
  hotTables: readonly string[]
  /** Selects the `sequence` of each job that has not succeeded, and whether it has `failed` for good. */
  unsuccessful: string
}

const startPeer = async (module: string, directory: string, env: NodeJS.ProcessEnv): Promise<Process> => {
  const started = startModule(`bench/contenders/${module}`, directory, env)
  await started.receive()
  return started
}

const peer = (name: string, module: string, rest: Pick<CellContender, 'schemas' | 'hotTables' | 'unsuccessful'>) => ({
  name,
  createDatabase: (server: Server, database: string) => server.createDatabase(database),
  startWorker: (directory: string, env: NodeJS.ProcessEnv) => startPeer(module, directory, { ...env, ROLE: 'work' }),
  startProducer: (directory: string, env: NodeJS.ProcessEnv) =>
    startPeer(module, directory, { ...env, ROLE: 'produce' }),
  ...rest,
})

const accepted: CellContender = {
  name: 'Accepted',
  createDatabase: (server, database) => server.createOurs(database),
  startWorker: (directory, env) =>
    startAccepted('worker', directory, env, { config: 'bench/app/cells/accepted.config.ts' }),
  startProducer: (directory, env) => startPeer('cell-accepted-producer.ts', directory, env),
  schemas: ['accepted', 'accepted_queue'],
  hotTables: ['accepted_queue.job_common', 'accepted.job'],
  unsuccessful: `select idempotency_key::int as sequence, status in ('failed', 'canceled') as failed
    from accepted.job where status <> 'succeeded'`,
}

const pgBoss: CellContender = peer('pg-boss', 'cell-pg-boss.ts', {
  schemas: ['pgboss'],
  hotTables: ['pgboss.job'],
  unsuccessful: `select (data->>'sequence')::int as sequence, state in ('failed', 'cancelled') as failed
    from pgboss.job where state <> 'completed' and name like 'cell.%'`,
})

const graphileWorker: CellContender = peer('graphile-worker', 'cell-graphile-worker.ts', {
  schemas: ['graphile_worker'],
  hotTables: ['graphile_worker._private_jobs'],
  unsuccessful: `select (payload->>'sequence')::int as sequence, attempts >= max_attempts as failed
    from graphile_worker._private_jobs`,
})

/** Accepted is the first. */
export const cellContenders: readonly CellContender[] = [accepted, pgBoss, graphileWorker]
