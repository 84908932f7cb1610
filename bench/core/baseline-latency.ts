import pg from 'pg'
import { format } from './format.ts'
import type { Server } from './server.ts'
import { quantile } from './stats.ts'

/** The lowest latencies that any client of Postgres can have on this machine, in milliseconds. */
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

const statementsEach = 500

/** Measures one statement after another on a connection of its own. Call it while the machine is idle. */
export async function measureBaselineLatency(server: Server): Promise<BaselineLatency> {
  const client = new pg.Client({ connectionString: await server.createDatabase('baseline') })
  await client.connect()
  try {
    await client.query('create table row (id integer)')
    const measure = async (name: string, text: string): Promise<Percentiles> => {
      const latencies: number[] = []
      for (let count = 0; count < statementsEach; count++) {
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

/** Describes how long a number of sequential statements, some of which commit, take at least. */
export function describeLeastLatency({ roundTrip, commit }: BaselineLatency, statements: number, commits: number) {
  const least = (statements - commits) * roundTrip.p50 + commits * commit.p50
  return `${format(least)} ms on this machine while it is idle, when one commit in a hundred takes ${format(commit.p99)} ms`
}
