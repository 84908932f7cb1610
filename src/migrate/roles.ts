import { queueSchema } from '../queue/schema.ts'
import { roles } from './grants.ts'

/** The schemas that belong to the owner. */
export const schemas = ['accepted', queueSchema] as const

/** Two databases of one cluster may be migrated at the same time, so another session may create the role meanwhile. */
const createRole = (name: string, options = ''): string => `do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = '${name}') then
    create role ${name} nologin${options};
  end if;
exception when duplicate_object or unique_violation then null;
end $$;`

/** Returns the statements that create the group roles. A role that exists stays as it is. */
export const createRoles = (): string[] => [
  ...Object.values(roles)
    .filter((name) => name !== roles.operator)
    .map((name) => createRole(name)),
  createRole(roles.operator, ` in role ${roles.reader}`),
]

/** The SQL for a DBA, when the role that migrates may not create roles and schemas. */
export const rolesForDba =
  (): string => `-- Run this as a superuser in the database of the app, and then accepted migrate.

${createRoles().join('\n\n')}

${schemas.map((name) => `create schema if not exists ${name} authorization ${roles.owner};`).join('\n')}

-- Login roles, for example:
-- create role my_migrator login password '…' in role ${roles.owner};
-- create role my_api login password '…' in role ${roles.api};
-- create role my_worker login password '…' in role ${roles.worker};
-- create role ann login password '…' in role ${roles.operator};
--
-- accepted migrate grants the privileges of the group roles. It creates the tables of the app's own migrations as
-- my_migrator, which needs this:
-- grant create on schema public to my_migrator;
`
