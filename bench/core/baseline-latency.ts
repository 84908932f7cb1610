import pg from 'pg'
import { format } from './format.ts'
import type { Server } from './server.ts'
import { quantile } from './stats.ts'

/** The lowest latencies that a client of Postgres can reach on this machine, in milliseconds. */
export interface BaselineLatency {
  /** A statement that reads nothing. */
  roundTrip: Percentiles
  /** A statement that inserts a row and commits. */
  commit: Percentiles
}

interface Percentiles {
  p50: number
  p99: number
}

const statementsPerKind = 500

/** Runs statements one after another on one connection and measures them. Call this while the machine is idle. */
export async function measureBaselineLatency(server: Server): Promise<BaselineLatency> {
  const client = new pg.Client({ connectionString: await server.createDatabase('baseline') })
  await client.connect()
  try {
    await client.query('create table row (id integer)')
    const measure = async (name: string, text: string): Promise<Percentiles> => {
      const latencies: number[] = []
      for (let count = 0; count < statementsPerKind; count++) {
        const begun = performance.now()
        await client.query({ name, text })
        latencies.push(performance.now() - begun)
      }
      return { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) }
    }
    return { roundTrip: await measure('read', 'select'), commit: await measure('insert', 'insert into row values (1)') }
  } finally {
    await client.end()
    await server.dropDatabase('baseline')
  }
}

/** Describes the shortest time in which `statements` sequential statements can run, if `commits` of them commit. */
export function describeLeastLatency({ roundTrip, commit }: BaselineLatency, statements: number, commits: number) {
  const least = (statements - commits) * roundTrip.p50 + commits * commit.p50
  return `${format(least)} ms while the machine is idle (p99 of a commit: ${format(commit.p99)} ms)`
}
