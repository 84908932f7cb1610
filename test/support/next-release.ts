import { cp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** The files and directories that a copy of the sources needs to run. */
const copiedPaths = ['src', 'worker', 'migrations', 'assets', 'package.json', 'test/fault/app']

/** Copies the sources, so that processes can run another version of them. */
export async function copySources(root: string, copy: string): Promise<void> {
  for (const path of copiedPaths) {
    await mkdir(join(copy, path, '..'), { recursive: true })
    await cp(join(root, path), join(copy, path), { recursive: true })
  }
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'))
}

/** The sources of this release. Its processes run while the next release migrates. */
export const thisRelease = join(import.meta.dirname, '../..')

/** What a release may change under the processes of the release before it. */
const nextMigration = `-- accepted: no transaction
alter table accepted.job add column if not exists next_release text;

comment on column accepted.job.next_release is 'Only the next release knows this column.';

create index concurrently if not exists idempotency_key_created_at_idx on accepted.idempotency_key (created_at);

comment on index accepted.idempotency_key_created_at_idx is 'Only the next release uses this index.';

create or replace function accepted.next_release() returns integer language sql immutable return 2;

comment on function accepted.next_release is 'Only the next release calls this function.';
`

/**
 * Creates the next release: a copy of the sources with one more migration.
 *
 * @param directory does not exist yet
 */
export async function createNextRelease(directory: string): Promise<void> {
  await copySources(thisRelease, directory)
  await writeFile(join(directory, 'migrations/9999_next_release.sql'), nextMigration)
}
