import { type Acceptance, defineOperation, type Entry, type Refusal, refuse } from 'accepted'
import type { Transaction } from 'kysely'
import Type from 'typebox'

export interface Tables {
  note: { id: string; principal: string; text: string; status: string }
  /** The next actions of a steered job. The test adds them. */
  step: { job_id: string; number: number; action: Action }
  /** The handlers write one row for each job in settle. */
  effect: { job_id: string }
  /** Events in a handler. The handler records them outside the settle transaction. */
  observation: { job_id: string; event: string }
}

/** An action that the handler of a steered job can perform. */
export type Action =
  | { do: 'progress'; percent: number; message?: string }
  | { do: 'set resource'; path: string }
  | { do: 'succeed' }
  | { do: 'fail'; code: string; message: string; status?: number; details?: unknown[] }
  | { do: 'throw'; message: string }

/**
 * If the text of a note starts with this prefix, the commit waits for an advisory lock on the text. A test can hold
 * that lock.
 */
export const heldAtCommit = 'held at commit'
/** If a note has this text, its commit fails. */
export const failsAtCommit = 'fails at commit'
/** Notes with these texts are refused. The value is the status of the refusal. */
export const refusedText = { forbidden: 403, gone: 404 } as const

/** The tables of the app. `serve` in ../support.ts creates them. */
export const schema = `
  create table note (id uuid primary key, principal text not null, text text not null, status text not null);
  create table step (
    job_id uuid not null, number bigint generated always as identity primary key, action jsonb not null);
  create table effect (job_id uuid not null);
  create table observation (job_id uuid not null, event text not null);
  create function at_commit() returns trigger language plpgsql as $$
  begin
    if new.text like '${heldAtCommit}%' then
      -- The lock timeout of the transaction must not end this wait.
      perform set_config('lock_timeout', '0', true);
      perform pg_advisory_xact_lock(hashtext(new.text));
    elsif new.text = '${failsAtCommit}' then
      raise exception 'the secret of the trigger';
    end if;
    return null;
  end $$;
  create constraint trigger at_commit after insert on note deferrable initially deferred
    for each row execute function at_commit();`

const Text = Type.Object({ text: Type.String() }, { additionalProperties: false })
const Id = Type.Object({ id: Type.String() })

/** Stores each entry as a note. */
async function storeNotes(
  trx: Transaction<Tables>,
  entries: Entry<{ text: string }, unknown>[],
): Promise<(Acceptance<{ text: string }> | Refusal)[]> {
  await trx
    .insertInto('note')
    .values(entries.map(({ id, principal, input }) => ({ id, principal, text: input.text, status: 'pending' })))
    .execute()
  return entries.map(({ id, input }) => {
    const status = refusedText[input.text as keyof typeof refusedText]
    if (status) return refuse(status, `note-${input.text}`, `The note is ${input.text}`)
    return { payload: input, resource: `/notes/${id}` }
  })
}

/** Its handler has only `settle`. Its jobs have a resource. */
export const createNote = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Text,
  accept: storeNotes,
})

const updateNote = async (_trx: Transaction<Tables>, entries: Entry<{ text: string }, { id: string }>[]) =>
  entries.map(({ params, input }) => ({ payload: input, resource: `/notes/${params.id}` }))

export const replaceNote = defineOperation({
  name: 'note.replace',
  route: { method: 'PUT', url: '/notes/:id' },
  params: Id,
  input: Text,
  accept: updateNote,
})

export const amendNote = defineOperation({
  name: 'note.amend',
  route: { method: 'PATCH', url: '/notes/:id' },
  params: Id,
  input: Text,
  accept: updateNote,
})

export const deleteNote = defineOperation({
  name: 'note.delete',
  route: { method: 'DELETE', url: '/notes/:id' },
  params: Id,
  input: Text,
  accept: updateNote,
})

export const deleteDraft = defineOperation({
  name: 'draft.delete',
  route: { method: 'DELETE', url: '/drafts/:id' },
  params: Id,
  input: Type.Object({ text: Type.Optional(Type.String()) }),
  payload: Id,
  accept: async (_trx, entries) => entries.map(({ params }) => ({ payload: params })),
})

/** Its handler has only `settle`. Its jobs have an inline result. */
export const sum = defineOperation({
  name: 'sum',
  route: { method: 'POST', url: '/sums' },
  input: Type.Object(
    {
      numbers: Type.Array(Type.Integer()),
      'in/words': Type.Optional(Type.Boolean()),
      label: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  result: Type.Object({ total: Type.Integer() }),
})

/** The inline result is the member `only` of the input, or else the whole input. */
export const echo = defineOperation({
  name: 'echo',
  route: { method: 'POST', url: '/echoes' },
  input: Type.Object({ text: Type.Optional(Type.String()) }),
  result: Type.Unknown(),
})

/** Its jobs have neither a resource nor a result. */
export const quiet = defineOperation({
  name: 'quiet',
  route: { method: 'POST', url: '/quiet' },
  input: Type.Object({}),
})

const Steered = Type.Object({ label: Type.Optional(Type.String()), stubborn: Type.Optional(Type.Boolean()) })
const steering = {
  input: Steered,
  result: Type.Object({ label: Type.String() }),
  retry: { limit: 1, delaySeconds: 0, backoff: false },
  timeoutSeconds: 600,
}

/** Its handler performs the actions that the test adds. A job has at most two attempts. */
export const steered = defineOperation({
  name: 'steered',
  route: { method: 'POST', url: '/steered' },
  ...steering,
})

/** Like {@link steered}. A test also sets the recent run time of this operation. */
export const estimated = defineOperation({
  name: 'estimated',
  route: { method: 'POST', url: '/estimated' },
  ...steering,
})

/** Its jobs stay queued, unless a test starts a worker that claims them. */
export const idle = defineOperation({
  name: 'idle',
  route: { method: 'POST', url: '/idle' },
  input: Text,
  accept: storeNotes,
})

/** Requires an Idempotency-Key. */
export const keyed = defineOperation({
  name: 'keyed',
  route: { method: 'POST', url: '/keyed' },
  input: Text,
  idempotencyKey: 'required',
})

/** Its jobs stay queued, and one job fills its backlog. */
export const limited = defineOperation({
  name: 'limited',
  route: { method: 'POST', url: '/limited' },
  input: Text,
  maxBacklog: 1,
})

export const bigLimit = 2 * 1024 * 1024

/** Accepts larger bodies than other operations. */
export const big = defineOperation({
  name: 'big',
  route: { method: 'POST', url: '/big' },
  input: Text,
  bodyLimit: bigLimit,
})

/** The operations whose jobs the worker of the tests claims, separated by commas. */
export const claimed = [
  createNote,
  replaceNote,
  amendNote,
  deleteNote,
  deleteDraft,
  sum,
  echo,
  quiet,
  steered,
  estimated,
  keyed,
  big,
]
  .map(({ name }) => name)
  .join(',')
