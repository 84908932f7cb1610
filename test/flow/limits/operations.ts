import { defineOperation } from 'accepted'
import Type from 'typebox'

const input = Type.Object({ tenant: Type.String() })

/** A row for each start of a handler. A process that was killed leaves `ended_at` empty. */
export const schema = `
  create table span (
    job_id uuid not null, operation text not null, tenant text not null, pid integer not null,
    started_at timestamptz not null default clock_timestamp(), ended_at timestamptz
  );
  grant all on span to public`

export const rate = { starts: 20, periodSeconds: 10 }

export const paced = defineOperation({
  ...{ name: 'call.paced', input, route: { method: 'POST', url: '/paced' } },
  limit: { rate: `${rate.starts}/${rate.periodSeconds}s` },
})

export const concurrency = 2

export const narrow = defineOperation({
  ...{ name: 'call.narrow', input, route: { method: 'POST', url: '/narrow' }, heartbeatSeconds: 10 },
  limit: { key: ({ tenant }: { tenant: string }) => tenant, concurrency },
})
