// Fastify without a database: validates each request and answers it.
import { type TypeBoxTypeProvider, TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import Fastify from 'fastify'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'

const app = Fastify().withTypeProvider<TypeBoxTypeProvider>().setValidatorCompiler(TypeBoxValidatorCompiler)
const body = Type.Object({ text: Type.String({ maxLength: 200 }) }, { additionalProperties: false })

app.post('/notes', { schema: { body } }, async (_request, reply) =>
  reply.code(202).send({ id: uuid7(), status: 'queued' }),
)

await app.listen({ host: '127.0.0.1', port: 0 })
const address = app.server.address() as { port: number }
process.send?.({ port: address.port })
