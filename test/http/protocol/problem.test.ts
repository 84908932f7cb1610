import Fastify from 'fastify'
import t from 'tap'
import { handleOwnError } from '../../../src/http/protocol/problem.ts'

t.test("an error of the app's own route is answered with the status that it says", async (t) => {
  const app = Fastify()
  app.setErrorHandler(handleOwnError)
  app.get<{ Params: { status: string } }>('/:status', async ({ params }) => {
    throw Object.assign(new Error('That day is over'), { statusCode: Number(params.status) })
  })
  for (const [status, code, title] of [
    [409, 'bad-request', 'Conflict'],
    [422, 'bad-request', 'Unprocessable Entity'],
    [400, 'bad-request', 'The request is malformed'],
    [403, 'forbidden', 'The credential does not permit this request'],
    [404, 'not-found', 'Not found, or not yours'],
  ] as const) {
    const response = await app.inject(`/${status}`)
    t.equal(response.statusCode, status)
    t.match(response.json(), { title, detail: 'That day is over', error: { code, message: 'That day is over' } })
  }
  const response = await app.inject('/500')
  t.equal(response.statusCode, 500)
  t.notMatch(response.body, /That day/)
})
